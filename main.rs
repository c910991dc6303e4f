//! # The smallest HAProxy
//!
//! A single-file, static HTTP/1 responder that reads HAProxy's configuration
//! language and does what a frontend does without servers: it answers from
//! `http-request` rules, shows `stats`, exports metrics and gives 503 to the
//! rest. It is made to be the only program of a unikernel image.
//!
//! What it refuses to do: it forwards nothing, speaks no TLS and no HTTP/2,
//! and never guesses. A word of the configuration that it cannot honour is
//! refused at start with file, line and reason.
//!
//! How its memory is bounded: everything is taken before the first accept,
//! `maxconn` connections of [`event_loop::SLOT_BYTES`] bytes and at most two
//! buffers of `tune.bufsize` bytes each, given out only while a request or an
//! answer is in flight. After that the program allocates nothing. A full pool
//! makes new connections wait in the listen backlog.
//!
//! Map, in the order in which a request meets the modules. A module calls
//! only those below it in this list:
//!
//! | module       | owns                                                    | may call                    |
//! |--------------|---------------------------------------------------------|-----------------------------|
//! | `main`       | the command line, messages, start                       | all                         |
//! | `event_loop` | sockets, slots, buffers, timers, signals: all of mio    | connection, log, sys        |
//! | `connection` | one connection as a state machine over byte slices      | stats, rules, http, log     |
//! | `stats`      | counters, the table of columns, all statistics formats  | config, sys                 |
//! | `config`     | sections, the table of keywords, every setting          | rules, words, log, http, sys|
//! | `rules`      | conditions, fetches, format strings, replies            | words, http, sys            |
//! | `words`      | a line of the configuration: quotes, numbers, errors    | sys                         |
//! | `http`       | RFC 9112 parsing: heads, framing, chunks                | httparse                    |
//! | `log`        | the batch of log lines and where it goes                | sys                         |
//! | `sys`        | what std and mio have not or have too large: `unsafe`   | libc, as linked by std      |
//! | `out`        | a bounded writer, and text that is built at start       | itoa; used by all           |
//!
//! `#[inline(never)]` stands where it makes the program smaller: what is called
//! once would else be joined into functions with frames of many kilobytes.
//!
//! To add a configuration word: a line in `config::KEYWORDS`. A statistics
//! column: a line in `stats::COLUMNS`. A fetch or an alias of a format string:
//! a line in `rules::FETCHES`. An action: a variant of `rules::Action` and its
//! arm in `connection`.

#![cfg_attr(not(test), no_main)]
#![cfg_attr(any(test, fuzzing), allow(dead_code))]

use out::{Text, decimal, place};

/// A text from a template: each `{}` is one of the values that follow.
macro_rules! text {
    ($template:expr $(, $value:expr)* $(,)?) => {
        crate::out::text($template, &[$(AsRef::<[u8]>::as_ref(&$value)),*])
    };
}
/// The same, written to an [`out::Out`] or to a template of the statistics.
macro_rules! put {
    ($out:expr, $template:expr $(, $value:expr)* $(,)?) => {
        $out.form($template, &[$(AsRef::<[u8]>::as_ref(&$value)),*])
    };
}

/// Configuration served when no `-f` is given: the stock file, compiled in.
const STOCK: Text = include_bytes!("haproxy.conf");
const USAGE: &str = "\
Usage: haproxy [-f <file|dir>]... [-C <dir>] [-n <maxconn>] [-c] [-q] [-V] [-d] [-db] [-D] [-dW]
  -f   configuration file, or a directory of *.cfg; repeatable; without it the stock file serves
  -C   change to this directory first
  -n   most concurrent connections, instead of the configuration's maxconn
  -c   check the configuration, print the memory it needs, and exit
  -q   print no messages      -V   print more: what is accepted without an effect
  -d   stay in the foreground and be verbose      -db  stay in the foreground
  -D   run in the background  -dW  treat warnings as errors
  -v   version                -vv  version and every supported word
";

#[cfg(not(any(test, fuzzing)))]
#[global_allocator]
static MEMORY: sys::Memory = sys::Memory::new();

/// Where the system starts the program. Rust's own `main` would bring the
/// preparations of std, which are larger than some modules here.
#[cfg(not(any(test, fuzzing)))]
#[unsafe(no_mangle)]
extern "C" fn main(count: i32, words: *const *const u8) -> i32 {
    run(&sys::arguments(count, words))
}

/// Runs the program and gives its exit status.
fn run(args: &[Text]) -> i32 {
    let mut options = Options::default();
    if let Some(status) = options.parse(args) {
        return status;
    }
    let (config, report) = options.load();
    let failed = report.has(config::ALERT) || options.warnings_fatal && report.has(config::WARNING);
    if !options.quiet || failed {
        report.print(options.verbose);
    }
    if failed {
        return fail(b"config : there are errors in the configuration, nothing was started");
    }
    if !config.listens() {
        options.tell(b"The configuration has no error, but no proxy has a 'bind' line : it would not start (exit 2)\n");
        return if options.check { 2 } else { fail(b"config : there is nothing to listen on") };
    }
    let plan = match event_loop::Plan::new(&config, options.maxconn) {
        Ok(plan) => plan,
        Err(why) => return fail(why),
    };
    if options.check {
        options.tell(text!("Configuration file is valid\n{}\n", plan.describe()));
        return 0;
    }
    if plan.reduced && !options.quiet {
        sys::message("NOTICE", text!("maxconn is lowered to fit : {}", plan.describe()));
    }
    match event_loop::Server::start(config, &plan, options.background) {
        Ok(mut server) => server.run(),
        Err(why) => fail(why),
    }
}

/// The command line, see [`USAGE`].
#[derive(Default)]
struct Options {
    files: Vec<Text>,
    directory: Option<Text>,
    maxconn: Option<u32>,
    check: bool,
    quiet: bool,
    verbose: bool,
    background: bool,
    warnings_fatal: bool,
}

impl Options {
    /// Reads the arguments. Gives a status where the program ends here.
    fn parse(&mut self, args: &[Text]) -> Option<i32> {
        let mut args = args.iter().copied();
        while let Some(arg) = args.next() {
            let value = if place(arg, "-f -C -n").is_some() { args.next() } else { Some(arg) };
            let number = value.and_then(|value| decimal(value, 1, config::MAXCONN_MAX));
            match (arg.strip_prefix(b"-").unwrap_or(b""), value) {
                (b"f", Some(file)) => self.files.push(file),
                (b"C", Some(directory)) => self.directory = Some(directory),
                (b"n", _) if number.is_some() => self.maxconn = number.map(|number| number as u32),
                (b"c", _) => self.check = true,
                (b"q", _) => self.quiet = true,
                (b"V" | b"d", _) => self.verbose = true,
                (b"db", _) => self.background = false,
                (b"D", _) => self.background = true,
                (b"dW", _) => self.warnings_fatal = true,
                (b"-", _) => self.files.extend(args.by_ref()),
                (b"h", _) => sys::print(1, USAGE),
                (b"v" | b"vv", _) => {
                    sys::print(
                        1,
                        concat!("tiny-haproxy version ", env!("CARGO_PKG_VERSION"), ", reads HAProxy 2.8's files\n"),
                    );
                    sys::print(1, if arg == b"-vv" { config::support() } else { b"" });
                }
                _ => {
                    sys::print(2, text!("haproxy: unknown or incomplete option '{}'\n{}", arg, USAGE));
                    return Some(1);
                }
            }
            if place(arg, "-h -v -vv").is_some() {
                return Some(0);
            }
        }
        None
    }

    /// Reads and parses every file, in order, into one configuration.
    #[inline(never)]
    fn load(&self) -> (config::Config, config::Report) {
        let mut parser = config::Parser::new();
        if let Some(directory) = self.directory
            && let Err(why) = sys::change_directory(directory)
        {
            parser.fatal(why);
        }
        if self.files.is_empty() {
            parser.parse(b"the built-in haproxy.conf", STOCK);
        }
        for name in &self.files {
            for file in sys::configuration_files(name) {
                match sys::read_file(file) {
                    Ok(text) => parser.parse(file, text),
                    Err(why) => parser.fatal(why),
                }
            }
        }
        parser.finish()
    }

    /// Tells the result of `-c`.
    fn tell(&self, text: Text) {
        if self.check && !self.quiet {
            sys::print(1, text);
        }
    }
}

/// Says what keeps the program from starting; gives its exit status.
fn fail(why: Text) -> i32 {
    sys::message("ALERT", why);
    1
}

/// Sockets, slots, buffers, timers and signals. Owns all of mio; calls
/// connection for everything that has a meaning.
mod event_loop {
    use crate::config::{Config, MAXCONN_DEFAULT, Proxy};
    use crate::connection::{Connection, Next, Service};
    use crate::log::Log;
    use crate::out::{Out, Text, number};
    use crate::rules::Wall;
    use crate::stats::{Count, Process, Statistics};
    use crate::sys;
    use mio::net::{TcpListener, TcpStream};
    use mio::{Events, Interest, Poll, Registry, Token};
    use std::io::{Error, ErrorKind, Read, Write};
    use std::net::{Shutdown, SocketAddr};
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    /// Events taken from the kernel at once.
    const EVENTS: usize = 256;
    /// Connections accepted in a row before the others have their turn.
    const ACCEPTS: usize = 64;
    /// Deadlines are looked at no more often than this, in milliseconds.
    const TICK_MS: u64 = 10;
    /// How often a paused accept, a refused write or a waiting log is tried again.
    const RETRY_MS: u64 = 100;
    /// Writes that the kernel had no memory for, in a row, before a
    /// connection is given up.
    const MAX_RETRIES: u8 = 50;
    /// Memory of the program beside what `maxconn` decides, in bytes.
    const FIXED_BYTES: u64 = 1024 * 1024;
    /// What the statistics of one proxy take, in bytes.
    const PROXY_BYTES: u64 = 96 * 1024;
    /// Connections that may wait to be accepted, if `maxconn` is no larger.
    const MIN_BACKLOG: u32 = 1024;
    /// Descriptors beside those of connections.
    const SPARE_FILES: u64 = 16;
    /// What of the available memory the default of `maxconn` leaves alone.
    const SHARE: u64 = 2;
    /// An answer longer than this takes more than one TCP segment, in bytes.
    const SEGMENT: usize = 1400;
    const WAKER: Token = Token(usize::MAX);

    /// Bytes that an idle connection takes, its deadline and its place among
    /// the free included.
    pub const SLOT_BYTES: usize = size_of::<Option<Slot>>() + 8 + 4 + 2 * 4;
    const _: () = assert!(SLOT_BYTES <= 384, "9,900 idle connections have to fit into 5 MiB");

    /// What will be taken at start.
    pub struct Plan {
        maxconn: u32,
        bufsize: usize,
        bytes: u64,
        /// It is less than what would have been, with more memory.
        pub reduced: bool,
    }

    impl Plan {
        /// Sizes everything from `maxconn` and `tune.bufsize`.
        ///
        /// # Errors
        /// A `maxconn` that was asked for and does not fit into the memory.
        #[inline(never)]
        pub fn new(config: &Config, option: Option<u32>) -> Result<Self, Text> {
            let available = sys::available_memory();
            let bufsize = config.global.bufsize;
            let each = (2 * bufsize + SLOT_BYTES) as u64;
            let asked = option.or(config.global.maxconn);
            let fixed = FIXED_BYTES + PROXY_BYTES * config.proxies.len() as u64;
            let plan = |maxconn: u32, reduced: bool| Self {
                maxconn,
                bufsize,
                bytes: fixed + u64::from(maxconn) * each,
                reduced,
            };
            let wanted = plan(asked.unwrap_or(MAXCONN_DEFAULT), false);
            if wanted.bytes <= available {
                return Ok(wanted);
            }
            let fits = (available.saturating_sub(fixed) / SHARE / each) as u32;
            if asked.is_some() || fits == 0 {
                let free = text!(", available are {} KiB; lower 'maxconn' or 'tune.bufsize'", number(available >> 10));
                return Err(text!("not enough memory : {}{}", wanted.describe(), free));
            }
            Ok(plan(fits, true))
        }

        /// One line for `-c`.
        pub fn describe(&self) -> Text {
            let [bytes, maxconn, bufsize] =
                [self.bytes.div_ceil(1024), self.maxconn.into(), self.bufsize as u64].map(number);
            text!("Memory needed: {} KiB (maxconn {}, tune.bufsize {})", bytes, maxconn, bufsize)
        }
    }

    // ---- one connection --------------------------------------------------------

    /// A connection's place: its socket, its state and its two buffers.
    pub struct Slot {
        stream: TcpStream,
        token: Token,
        connection: Connection,
        input: Buffer,
        output: Buffer,
        /// What comes once the output is sent.
        next: Next,
        /// More may be read than was read.
        readable: bool,
        /// The kernel refused to take more.
        blocked: bool,
        /// The kernel tells of events; also when it takes more again.
        watched: bool,
        watches_writes: bool,
        /// The peer sends nothing more.
        ended: bool,
        /// The last read was short, and nothing was tried since.
        unprobed: bool,
        /// TCP_NODELAY is set.
        nodelay: bool,
        /// Writes that the kernel had no memory for, in a row.
        retries: u8,
    }

    /// What all slots share.
    struct Shared {
        service: Service,
        buffers: Buffers,
        poll: Poll,
    }

    /// How a step went: done, or waiting for the socket. An error closes.
    enum Io {
        Done,
        Blocked,
    }
    type Step = Result<Io, ()>;

    impl Slot {
        /// Sends, advances and reads until the socket or the connection has
        /// nothing more to do. `hung_up`: the kernel said that the peer sends
        /// nothing more, so a short read is not the last one.
        ///
        /// # Errors
        /// The connection is to be closed.
        fn drive(&mut self, shared: &mut Shared, hung_up: bool) -> Result<(), ()> {
            while let Io::Done = self.send(shared)? {
                match self.next {
                    Next::Close => return Err(()),
                    Next::Wait => break,
                    Next::Write => {}
                    Next::Linger | Next::Read => {
                        if self.next == Next::Linger {
                            if self.ended {
                                return Err(());
                            }
                            let _ = self.stream.shutdown(Shutdown::Write);
                            self.next = Next::Read;
                        }
                        if let Io::Blocked = self.receive(shared, hung_up)? {
                            break;
                        }
                    }
                }
                self.advance(shared);
            }
            if self.input.is_empty() {
                shared.buffers.give_back(&mut self.input);
            }
            Ok(())
        }

        /// Has the kernel tell of events from now on, those that wait included.
        fn watch(&mut self, registry: &Registry) -> Result<(), ()> {
            let writes = self.watches_writes.then_some(Interest::WRITABLE);
            let interest = writes.map_or(Interest::READABLE, |writes| Interest::READABLE | writes);
            let result = match std::mem::replace(&mut self.watched, true) {
                true => registry.reregister(&mut self.stream, self.token, interest),
                false => registry.register(&mut self.stream, self.token, interest),
            };
            result.map_err(drop)
        }

        /// Has the connection look at its input.
        fn advance(&mut self, shared: &mut Shared) {
            shared.service.statistics.process.buffers_in_use = shared.buffers.in_use();
            let (input, output) = shared.buffers.pair(&self.input, &mut self.output);
            let mut out = Out::new(output);
            let (used, next) = self.connection.advance(&mut shared.service, input, self.ended, &mut out);
            self.next = next;
            self.output.end = out.len() as u32;
            self.input.start += used as u32;
            debug_assert!(self.input.start <= self.input.end);
            if self.input.is_empty() {
                (self.input.start, self.input.end) = (0, 0);
            }
        }

        /// Reads once. A short read means that there is no more for now.
        fn receive(&mut self, shared: &mut Shared, hung_up: bool) -> Step {
            if !self.readable || self.ended {
                return Ok(Io::Blocked);
            }
            let bytes = shared.buffers.of(&mut self.input);
            if self.input.start > 0 {
                bytes.copy_within(self.input.start as usize..self.input.end as usize, 0);
                self.input.end -= self.input.start;
                self.input.start = 0;
            }
            let room = &mut bytes[self.input.end as usize..];
            if room.is_empty() {
                // a request that fills the buffer has been answered: see head_limit
                return Err(());
            }
            match self.stream.read(room) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.readable = count == room.len() || hung_up;
                    self.unprobed = !self.readable;
                    self.input.end += count as u32;
                    self.connection.counters(&mut shared.service).add(Count::WireIn, count as u64);
                }
                Err(why) => match why.kind() {
                    ErrorKind::WouldBlock => {
                        (self.readable, self.unprobed) = (false, false);
                        return Ok(Io::Blocked);
                    }
                    ErrorKind::Interrupted => {}
                    // a reset
                    _ => self.ended = true,
                },
            }
            Ok(Io::Done)
        }

        /// Writes what is there to write. Done means that all of it is gone.
        fn send(&mut self, shared: &mut Shared) -> Step {
            while !self.output.is_empty() {
                if self.blocked {
                    return Ok(Io::Blocked);
                }
                let bytes = shared.buffers.used(&self.output);
                if !self.nodelay && self.next != Next::Close && (self.connection.requests > 1 || bytes.len() > SEGMENT)
                {
                    // the last part of an answer shall not wait for an acknowledgement
                    self.nodelay = true;
                    let _ = self.stream.set_nodelay(true);
                }
                match self.stream.write(bytes) {
                    Ok(count) => {
                        self.output.start += count as u32;
                        self.retries = 0;
                    }
                    Err(why) if why.kind() == ErrorKind::Interrupted => {}
                    Err(why) if why.kind() == ErrorKind::WouldBlock => {
                        self.blocked = true;
                        if !std::mem::replace(&mut self.watches_writes, true) && self.watched {
                            self.watch(shared.poll.registry())?;
                        }
                        return Ok(Io::Blocked);
                    }
                    // ENOMEM and ENOBUFS: a small guest has memory again soon
                    Err(why) if matches!(why.raw_os_error(), Some(12 | 105)) && self.retries < MAX_RETRIES => {
                        self.retries += 1;
                        return Ok(Io::Blocked);
                    }
                    Err(_) => return Err(()),
                }
            }
            shared.buffers.give_back(&mut self.output);
            Ok(Io::Done)
        }

        /// When it has to be looked at, whatever the socket says.
        fn deadline(&self, shared: &Shared) -> u64 {
            if self.retries > 0 {
                return shared.service.statistics.now_ms + RETRY_MS;
            }
            let input = shared.buffers.used(&self.input);
            self.connection.deadline(&shared.service, input, !self.output.is_empty())
        }

        /// The deadline has come.
        #[inline(never)]
        fn expire(&mut self, shared: &mut Shared) -> Result<(), ()> {
            if self.output.is_empty() {
                let (input, output) = shared.buffers.pair(&self.input, &mut self.output);
                let mut out = Out::new(output);
                self.next = self.connection.expired(&mut shared.service, input, &mut out);
                self.output.end = out.len() as u32;
            } else if self.retries == 0 {
                return Err(());
            }
            self.drive(shared, false)
        }
    }

    // ---- buffers -----------------------------------------------------------------

    /// The part of a buffer that is in use; no buffer where nothing is.
    #[derive(Clone, Copy, Default)]
    struct Buffer {
        number: Option<u32>,
        start: u32,
        end: u32,
    }

    impl Buffer {
        fn is_empty(&self) -> bool {
            self.start == self.end
        }
    }

    /// All buffers: two for each connection, taken when bytes are in flight
    /// and given back when they are gone. The one given back last is taken
    /// first, so that a quiet server touches few.
    struct Buffers {
        bytes: Vec<u8>,
        size: usize,
        free: Vec<u32>,
        /// Buffers never taken so far begin here: their memory is untouched.
        fresh: u32,
    }

    impl Buffers {
        fn new(count: usize, size: usize) -> Self {
            Self { bytes: vec![0; count * size], size, free: Vec::with_capacity(count), fresh: 0 }
        }

        /// The bytes of a buffer, which is taken from the pool where the
        /// connection has none. There are two for each, so one is always free.
        fn of(&mut self, buffer: &mut Buffer) -> &mut [u8] {
            let number = *buffer.number.get_or_insert_with(|| {
                self.free.pop().unwrap_or_else(|| {
                    self.fresh += 1;
                    self.fresh - 1
                })
            });
            let at = number as usize * self.size;
            debug_assert!(at + self.size <= self.bytes.len(), "more buffers taken than there are");
            &mut self.bytes[at..at + self.size]
        }

        /// What is in one buffer, and the whole of another, taken if need be.
        fn pair(&mut self, input: &Buffer, output: &mut Buffer) -> (&[u8], &mut [u8]) {
            self.of(output);
            let at = output.number.unwrap_or(0) as usize * self.size;
            let (before, rest) = self.bytes.split_at_mut(at);
            let (output, behind) = rest.split_at_mut(self.size);
            let Some(number) = input.number else { return (&[], output) };
            let from = number as usize * self.size;
            let side = if from < at { &before[from..] } else { &behind[from - at - self.size..] };
            (&side[input.start as usize..input.end as usize], output)
        }

        fn used(&self, buffer: &Buffer) -> &[u8] {
            let at = buffer.number.unwrap_or(0) as usize * self.size;
            &self.bytes[at + buffer.start as usize..at + buffer.end as usize]
        }

        fn give_back(&mut self, buffer: &mut Buffer) {
            if let Some(number) = buffer.number.take() {
                debug_assert!(self.free.len() < self.free.capacity());
                self.free.push(number);
            }
            *buffer = Buffer::default();
        }

        fn in_use(&self) -> u64 {
            u64::from(self.fresh) - self.free.len() as u64
        }
    }

    // ---- the server ----------------------------------------------------------------

    /// A listening socket and the proxy that it is for.
    struct Listener {
        socket: TcpListener,
        proxy: &'static Proxy,
        /// Connections may be waiting to be accepted.
        ready: bool,
    }

    /// The listening sockets and all connections.
    pub struct Server {
        events: Events,
        shared: Shared,
        listeners: Vec<Listener>,
        slots: Vec<Option<Slot>>,
        free: Vec<u32>,
        /// Deadline of each slot, beside the slots so that looking at all of
        /// them is quick.
        deadlines: Vec<u64>,
        /// No deadline is before this.
        next_deadline_ms: u64,
        started: Instant,
        /// Accepting waits for a descriptor, or for memory, until then.
        accept_again_ms: u64,
        /// Connections whose close may be unseen are not looked at before.
        probe_at_ms: u64,
        stop_at_ms: u64,
        /// Times and addresses are looked at, by logs or rules.
        needs_scene: bool,
    }

    impl Server {
        /// Opens the listening sockets and takes all memory.
        ///
        /// # Errors
        /// What keeps the server from serving: an address in use, no epoll.
        #[inline(never)]
        pub fn start(config: Config, plan: &Plan, background: bool) -> Result<Self, Text> {
            let config: &'static Config = Box::leak(Box::new(config));
            let failed = |what: &[u8], why: Error| text!("{} : {}", what, sys::reason(&why));
            let mut listeners = listen(config, plan.maxconn)?;
            if background && let Err(why) = sys::background() {
                sys::message("WARNING", text!("cannot go to the background, staying in front : {}", why));
            }
            let poll = Poll::new().map_err(|why| failed(b"cannot create an epoll", why))?;
            let count = plan.maxconn as usize;
            for (at, listener) in listeners.iter_mut().enumerate() {
                let watched = poll.registry().register(&mut listener.socket, Token(count + at), Interest::READABLE);
                watched.map_err(|why| failed(b"cannot watch a listener", why))?;
            }
            match mio::Waker::new(poll.registry(), WAKER) {
                Ok(waker) => sys::catch_signals(waker),
                Err(why) => sys::message("WARNING", failed(b"signals will not be handled", why)),
            }
            let files = u64::from(plan.maxconn) + listeners.len() as u64 + SPARE_FILES;
            let allowed = sys::allow_files(files);
            if allowed < files && !plan.reduced {
                let text =
                    text!("only {} descriptors are allowed, fewer than 'maxconn' needs : others wait", number(allowed));
                sys::message("WARNING", text);
            }
            let logs = config.proxies.iter().any(|proxy| !proxy.targets.is_empty());
            // every condition, of whatever line, has its ACLs here
            let rules = config.proxies.iter().any(|proxy| !proxy.rules.is_empty() || !proxy.acls.is_empty());
            let process = Process {
                started_wall: wall().seconds,
                maxconn: plan.maxconn,
                max_files: allowed,
                memory_bytes: plan.bytes,
                listeners: listeners.len() as u64,
                ..Process::default()
            };
            let service = Service { statistics: Statistics::new(config, process), log: Log::new(logs), wall: wall() };
            Ok(Self {
                events: Events::with_capacity(EVENTS),
                shared: Shared { service, buffers: Buffers::new(2 * count, plan.bufsize), poll },
                listeners,
                slots: Vec::with_capacity(count),
                free: Vec::with_capacity(count),
                deadlines: Vec::with_capacity(count),
                next_deadline_ms: u64::MAX,
                started: Instant::now(),
                accept_again_ms: u64::MAX,
                probe_at_ms: 0,
                stop_at_ms: u64::MAX,
                needs_scene: logs || rules,
            })
        }

        /// Serves until a signal; returns the exit status.
        #[inline(never)]
        pub fn run(&mut self) -> i32 {
            loop {
                let timeout = self.timeout();
                if let Err(why) = self.shared.poll.poll(&mut self.events, timeout)
                    && why.kind() != ErrorKind::Interrupted
                {
                    sys::message("ALERT", text!("waiting for events failed : {}", sys::reason(&why)));
                    return 1;
                }
                self.shared.service.statistics.now_ms = self.started.elapsed().as_millis() as u64;
                if self.needs_scene {
                    self.shared.service.wall = wall();
                }
                let status = match sys::take_signal() {
                    0 => None,
                    sys::SIGUSR1 => {
                        self.stop_softly();
                        None
                    }
                    number => Some(128 + number),
                };
                self.turn();
                if let Some(status) = status.or(self.stopped().then_some(0)) {
                    self.shared.service.log.flush();
                    return status;
                }
            }
        }

        /// One turn: what is ready, what is due, who waits to be accepted.
        fn turn(&mut self) {
            let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
            let count = self.slots.capacity();
            for event in &events {
                let at = event.token().0;
                if let Some(Some(slot)) = self.slots.get_mut(at) {
                    slot.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                    slot.blocked &= !(event.is_writable() || event.is_error());
                    let driven = slot.drive(&mut self.shared, event.is_read_closed());
                    self.settle(at, driven);
                } else if let Some(listener) = self.listeners.get_mut(at.wrapping_sub(count)) {
                    listener.ready = true;
                }
            }
            self.events = events;
            if self.now_ms() >= self.next_deadline_ms {
                self.expire();
            }
            self.accept_all();
            let service = &mut self.shared.service;
            if service.log.waiting() {
                service.log.flush();
            }
            service.statistics.process.dropped_logs = service.log.dropped;
        }

        fn now_ms(&self) -> u64 {
            self.shared.service.statistics.now_ms
        }

        /// How long nothing can happen but an event.
        fn timeout(&self) -> Option<Duration> {
            let open = |listener: &Listener| listener.ready && self.has_room(listener.proxy);
            if self.accept_again_ms == u64::MAX && self.listeners.iter().any(open) {
                return Some(Duration::ZERO);
            }
            let now = self.now_ms();
            let mut wake = self.next_deadline_ms.max(now + 1).min(self.accept_again_ms).min(self.stop_at_ms);
            if self.shared.service.log.waiting() || self.listeners.iter().any(|listener| listener.ready) {
                wake = wake.min(now + RETRY_MS);
            }
            (wake != u64::MAX).then(|| Duration::from_millis(wake.saturating_sub(now)))
        }

        // ---- accepting -----------------------------------------------------

        /// There is a place, for this proxy too.
        fn has_room(&self, proxy: &Proxy) -> bool {
            let statistics = &self.shared.service.statistics;
            (!self.free.is_empty() || self.slots.len() < self.slots.capacity())
                && proxy.maxconn.is_none_or(|limit| statistics.proxies[proxy.index()].sessions < u64::from(limit))
        }

        /// Accepts until nobody waits or no place is free. Who is not
        /// accepted waits in the listen backlog.
        #[inline(never)]
        fn accept_all(&mut self) {
            if self.now_ms() < self.accept_again_ms && self.accept_again_ms != u64::MAX {
                return;
            }
            self.accept_again_ms = u64::MAX;
            for at in 0..self.listeners.len() {
                for _ in 0..ACCEPTS {
                    let proxy = self.listeners[at].proxy;
                    if !self.listeners[at].ready {
                        break;
                    }
                    if !self.has_room(proxy) {
                        self.probe_idle();
                        break;
                    }
                    match self.listeners[at].socket.accept() {
                        Ok((stream, peer)) => self.open(stream, peer, proxy),
                        Err(why) => match why.kind() {
                            ErrorKind::WouldBlock => self.listeners[at].ready = false,
                            ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                            // no descriptor or no memory: wait for some
                            _ => {
                                self.accept_again_ms = self.now_ms() + RETRY_MS;
                                self.probe_idle();
                                return;
                            }
                        },
                    }
                }
            }
        }

        fn open(&mut self, stream: TcpStream, peer: SocketAddr, proxy: &'static Proxy) {
            let at = match self.free.pop() {
                Some(at) => at as usize,
                None => {
                    self.slots.push(None);
                    self.deadlines.push(u64::MAX);
                    self.slots.len() - 1
                }
            };
            let local = if self.needs_scene { stream.local_addr().unwrap_or(peer) } else { peer };
            let connection = Connection::open(proxy, peer, local, &mut self.shared.service);
            let (token, input, output, next) = (Token(at), Buffer::default(), Buffer::default(), Next::Read);
            let [blocked, watched, watches_writes, ended, unprobed, nodelay] = [false; 6];
            let slot = self.slots[at].insert(Slot {
                stream,
                token,
                connection,
                input,
                output,
                next,
                // most clients have sent their request by now
                readable: true,
                blocked,
                watched,
                watches_writes,
                ended,
                unprobed,
                nodelay,
                retries: 0,
            });
            // no backend: in mode tcp, nobody is there to talk to
            let served = if proxy.http { slot.drive(&mut self.shared, false) } else { Err(()) };
            let watched = served.and_then(|()| slot.watch(self.shared.poll.registry()));
            self.settle(at, watched);
        }

        /// Nobody can be accepted. Where a short read left a close unseen (on
        /// Unikraft no event tells of it), a connection holds a place that
        /// others wait for: looks.
        fn probe_idle(&mut self) {
            self.shared.service.statistics.process.waits += 1;
            if self.now_ms() < self.probe_at_ms {
                return;
            }
            self.probe_at_ms = self.now_ms() + RETRY_MS;
            for at in 0..self.slots.len() {
                if let Some(slot) = self.slots[at].as_mut().filter(|slot| slot.unprobed) {
                    slot.readable = true;
                    let driven = slot.drive(&mut self.shared, false);
                    self.settle(at, driven);
                }
            }
        }

        /// Closes a slot that has come to its end, or notes its deadline.
        fn settle(&mut self, at: usize, driven: Result<(), ()>) {
            let Some(slot) = &mut self.slots[at] else { return };
            if driven.is_ok() {
                let deadline = slot.deadline(&self.shared);
                self.deadlines[at] = deadline;
                self.next_deadline_ms = self.next_deadline_ms.min(deadline);
                return;
            }
            slot.connection.closed(&mut self.shared.service, self.shared.buffers.used(&slot.input));
            self.shared.buffers.give_back(&mut slot.input);
            self.shared.buffers.give_back(&mut slot.output);
            self.slots[at] = None;
            self.deadlines[at] = u64::MAX;
            debug_assert!(self.free.len() < self.free.capacity());
            self.free.push(at as u32);
            // the place, or the descriptor, may be what accepting waits for
            self.accept_again_ms = self.accept_again_ms.min(self.now_ms());
        }

        /// Ends the waits that are over.
        fn expire(&mut self) {
            let now = self.now_ms();
            self.next_deadline_ms = u64::MAX;
            for at in 0..self.deadlines.len() {
                if self.deadlines[at] <= now
                    && let Some(slot) = &mut self.slots[at]
                {
                    let driven = slot.expire(&mut self.shared);
                    self.settle(at, driven);
                }
                self.next_deadline_ms = self.next_deadline_ms.min(self.deadlines[at]);
            }
            self.next_deadline_ms = self.next_deadline_ms.max(now + TICK_MS);
        }

        // ---- the end -------------------------------------------------------

        /// Stops accepting, closes idle connections; the others are finished.
        fn stop_softly(&mut self) {
            self.listeners.clear();
            let statistics = &mut self.shared.service.statistics;
            statistics.process.stopping = true;
            statistics.process.listeners = 0;
            if statistics.config.global.hard_stop > 0 {
                self.stop_at_ms = statistics.now_ms + u64::from(statistics.config.global.hard_stop);
            }
            for at in 0..self.slots.len() {
                if let Some(slot) = &self.slots[at]
                    && slot.connection.idle(self.shared.buffers.used(&slot.input))
                {
                    self.settle(at, Err(()));
                }
            }
        }

        fn stopped(&self) -> bool {
            let process = &self.shared.service.statistics.process;
            process.stopping && (process.connections == 0 || self.now_ms() >= self.stop_at_ms)
        }
    }

    fn wall() -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall { seconds: since.as_secs(), millis: since.subsec_millis().into() }
    }

    /// Opens every listening socket of the configuration.
    #[inline(never)]
    fn listen(config: &'static Config, maxconn: u32) -> Result<Vec<Listener>, Text> {
        let mut listeners = Vec::new();
        for proxy in config.proxies.iter().filter(|proxy| !proxy.disabled) {
            for bind in &proxy.binds {
                match TcpListener::bind(bind.address) {
                    Ok(socket) => {
                        sys::set_backlog(&socket, maxconn.max(MIN_BACKLOG));
                        listeners.push(Listener { socket, proxy, ready: true });
                    }
                    Err(why) => {
                        let why = sys::reason(&why);
                        return Err(text!(
                            "starting proxy {} : cannot listen on [{}] : {}",
                            proxy.name,
                            bind.shown,
                            why
                        ));
                    }
                }
            }
        }
        Ok(listeners)
    }
}

/// One connection as a state machine over byte slices: which bytes are a
/// request, which rule answers it, what is counted and logged. Owns no socket
/// and no buffer; calls stats, config, rules, http and log.
mod connection {
    use crate::config::{self, Proxy, Stats};
    use crate::http::{self, Parsed, Request};
    use crate::log::Log;
    use crate::out::{Out, place};
    use crate::rules::{self, Action, Answer, Origin, Outcome, Persistence, Reply, Rule, Scene, Wall};
    use crate::stats::{Count, Counters, Page, Statistics};
    use std::net::SocketAddr;

    /// How long an answered connection may go on sending before it is closed,
    /// in milliseconds: closing earlier could reset it and lose the answer.
    const LINGER_MS: u64 = 2000;
    /// Room for the head of a page, for the size line of a chunk, and for what
    /// ends a chunk and a chunked body, in bytes.
    const PAGE_HEAD: usize = 256;
    const CHUNK_SIZE: usize = 18;
    const CHUNK_END: usize = 2 + 5;

    /// What all connections share.
    pub struct Service {
        pub statistics: Statistics,
        pub log: Log,
        pub wall: Wall,
    }

    /// What the owner of the socket has to do next.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Next {
        /// Send what is written, then bring more input.
        Read,
        /// Send what is written, then call again, with the same input.
        Write,
        /// Nothing before the deadline.
        Wait,
        /// Send what is written and close.
        Close,
        /// Send what is written, close that direction, go on with [`Next::Read`].
        Linger,
    }

    /// The state of a connection between two calls.
    pub struct Connection {
        config: &'static Proxy,
        origin: Origin,
        /// Requests answered.
        pub requests: u32,
        /// When the wait for the current request began.
        since_ms: u64,
        /// Bytes of a partial head in which no end was found.
        seen: u32,
        /// The current request is in the counters, but not its answer.
        counted: bool,
        /// 100 Continue was sent for it.
        continued: bool,
        /// End of its tarpit, 0 for none.
        tarpit_until_ms: u64,
        /// Everything is answered; what still comes is thrown away.
        draining: bool,
        /// A page that did not fit into one buffer, and how it is sent. Its
        /// request stays in the input until it is complete.
        page: Option<(Page, Framing)>,
    }

    #[derive(Clone, Copy)]
    struct Framing {
        chunked: bool,
        keep: bool,
        end: End,
        /// Bytes of its request, and bytes sent so far.
        taken: u32,
        bytes: u64,
    }

    /// How a request came to its end, for the log and the counters.
    struct Ending {
        /// Termination state, as the log tells it; empty for what is not logged.
        flags: &'static str,
        server: &'static str,
        count: Option<Count>,
    }
    type End = &'static Ending;

    const fn ending(flags: &'static str, server: &'static str, count: Option<Count>) -> Ending {
        Ending { flags, server, count }
    }
    const NOBODY: &str = "<NOSRV>";
    static INTERCEPTED: Ending = ending("LR--", NOBODY, Some(Count::Intercepted));
    static STATISTICS: Ending = ending("LR--", "<STATS>", Some(Count::Intercepted));
    static METRICS: Ending = ending("LR--", "<PROMEX>", Some(Count::Intercepted));
    /// A page, which counts itself before it is written, and one cut off.
    static PAGE: Ending = ending("LR--", "<STATS>", None);
    static METRICS_PAGE: Ending = ending("LR--", "<PROMEX>", None);
    static ABORTED_PAGE: Ending = ending("CD--", "<STATS>", None);
    static ABORTED_METRICS: Ending = ending("CD--", "<PROMEX>", None);
    static MONITORED: Ending = ending("", NOBODY, None);
    static UNSERVED: Ending = ending("SC--", NOBODY, Some(Count::NoServer));
    static CONNECTED: Ending = ending("SC--", NOBODY, None);
    static TOO_LARGE: Ending = ending("PR--", NOBODY, Some(Count::InternalErrors));
    static DENIED: Ending = ending("PR--", NOBODY, Some(Count::Denied));
    static BAD: Ending = ending("PR--", NOBODY, Some(Count::BadRequests));
    static CUT_OFF: Ending = ending("CR--", NOBODY, Some(Count::BadRequests));
    /// A connection on which nothing came, where these are not logged.
    static PROBE: Ending = ending("", NOBODY, Some(Count::BadRequests));
    static TIMED_OUT: Ending = ending("cR--", NOBODY, Some(Count::BadRequests));
    static ABORTED: Ending = ending("CR--", NOBODY, None);

    /// A request that is being answered.
    struct Ask<'a> {
        request: &'a Request<'a, 'a>,
        persistence: Persistence,
        /// Its body is all there; the buffer has no room for more of it; no
        /// more of it will come.
        whole: bool,
        full: bool,
        end: bool,
    }

    /// Who answers a request.
    enum Decision {
        Reply(&'static Reply, End),
        Page(Page, End),
        /// Nobody: the connection is closed.
        Reject,
        Bad(End),
        Later(Next),
    }

    impl Connection {
        /// A connection that was just accepted.
        pub fn open(config: &'static Proxy, peer: SocketAddr, local: SocketAddr, service: &mut Service) -> Self {
            let now_ms = service.statistics.now_ms;
            let process = &mut service.statistics.process;
            process.connections += 1;
            process.connections_total += 1;
            process.connections_max = process.connections_max.max(process.connections);
            process.connection_rate.add(now_ms, 1);
            let connection = Self {
                config,
                origin: Origin { peer, local, started: service.wall },
                requests: 0,
                since_ms: now_ms,
                seen: 0,
                counted: false,
                continued: false,
                tarpit_until_ms: 0,
                draining: false,
                page: None,
            };
            let counters = connection.counters(service);
            counters.sessions += 1;
            counters.sessions_max = counters.sessions_max.max(counters.sessions);
            counters.connection_rate.add(now_ms, 1);
            counters.add(Count::Connections, 1);
            counters.add(if config.http { Count::H1Sessions } else { Count::OtherSessions }, 1);
            if !config.http || config.logs_connections {
                connection.log(service, None, 0, &CONNECTED, 0);
            }
            connection
        }

        /// Takes the connection out of the counters. A request that is still
        /// in hand, with which `input` begins, ends without an answer, or with a
        /// part of one.
        pub fn closed(&mut self, service: &mut Service, input: &[u8]) {
            if let Some((_, framing)) = self.page.take() {
                let of_metrics = framing.end.server == METRICS.server;
                let end = if of_metrics { &ABORTED_METRICS } else { &ABORTED_PAGE };
                self.finish_later(service, input, 200, end, framing.bytes);
            } else if self.counted {
                self.finish_later(service, input, 0, &ABORTED, 0);
            }
            self.counters(service).sessions -= 1;
            service.statistics.process.connections -= 1;
        }

        pub fn counters<'s>(&self, service: &'s mut Service) -> &'s mut Counters {
            &mut service.statistics.proxies[self.config.index()]
        }

        /// No request has begun.
        pub fn idle(&self, input: &[u8]) -> bool {
            input.is_empty() && self.page.is_none() && !self.draining && !self.counted
        }

        /// Goes as far as input and room allow; `end` means that no more input
        /// will come. Gives how many bytes of the input are done with, and
        /// what comes next.
        pub fn advance(&mut self, service: &mut Service, input: &[u8], end: bool, out: &mut Out) -> (usize, Next) {
            let mut used = 0;
            loop {
                if self.draining {
                    return (input.len(), if end { Next::Close } else { Next::Read });
                }
                if let Some((page, framing)) = self.page.take() {
                    let next = self.go_on(page, framing, service, &input[used..], out);
                    used += if self.page.is_none() { framing.taken as usize } else { 0 };
                    if next != Next::Read {
                        return (used, next);
                    }
                }
                used += http::blank_lines(&input[used..]);
                let (taken, next) = self.head(service, &input[used..], end, out);
                used += taken;
                match next {
                    // the next of several pipelined requests
                    Next::Read if taken > 0 && used < input.len() => {}
                    Next::Read if end => return (used, Next::Close),
                    next => return (used, next),
                }
            }
        }

        /// Looks for one request at the start of the input.
        fn head(&mut self, service: &mut Service, input: &[u8], end: bool, out: &mut Out) -> (usize, Next) {
            if input.is_empty() {
                if end && self.requests == 0 && !self.config.has(config::IGNORE_PROBES) {
                    self.count(service);
                    let end = if self.config.has(config::DONTLOGNULL) { &PROBE } else { &CUT_OFF };
                    self.finish(service, None, 400, end, 0);
                }
                return (0, Next::Read);
            }
            let limit = service.statistics.config.head_limit();
            let seen = (self.seen as usize).min(input.len());
            if seen == 0 && !self.counted {
                self.origin.started = service.wall;
                if self.requests > 0 {
                    self.since_ms = service.statistics.now_ms;
                }
            }
            if seen > 0 && !end && input.len() < limit && !input[seen..].contains(&b'\n') {
                self.seen = input.len() as u32;
                return (0, Next::Read);
            }
            let mut few = [http::EMPTY_HEADER; http::FEW_HEADERS];
            match http::parse(input, &mut few) {
                Parsed::Crowded => {
                    let mut all = [http::EMPTY_HEADER; http::MAX_HEADERS];
                    self.parsed(service, http::parse(input, &mut all), input, end, out)
                }
                parsed => self.parsed(service, parsed, input, end, out),
            }
        }

        fn parsed(
            &mut self,
            service: &mut Service,
            parsed: Parsed,
            input: &[u8],
            end: bool,
            out: &mut Out,
        ) -> (usize, Next) {
            let limit = service.statistics.config.head_limit();
            match parsed {
                Parsed::Head(request) if request.length <= limit => self.request(service, &request, input, end, out),
                Parsed::Partial if input.len() < limit && !end => {
                    self.seen = input.len() as u32;
                    (0, Next::Read)
                }
                Parsed::Partial if end => self.bad(service, 400, &CUT_OFF, out),
                Parsed::Bad(status) => self.bad(service, status, &BAD, out),
                _ => self.bad(service, 400, &BAD, out),
            }
        }

        /// A whole head: finds out about its body, then who answers.
        #[inline(never)]
        fn request(
            &mut self,
            service: &mut Service,
            request: &Request,
            input: &[u8],
            end: bool,
            out: &mut Out,
        ) -> (usize, Next) {
            let Ok(body) = http::body(request.framing, &input[request.length..]) else {
                return self.bad(service, 400, &BAD, out);
            };
            self.count(service);
            let closes = self.config.has(config::HTTP_CLOSE) || service.statistics.process.stopping;
            let persistence = match request.keep_alive && body.is_some() && !closes {
                false => Persistence::Close,
                true if request.is_old() => Persistence::KeepTold,
                true => Persistence::Keep,
            };
            let full = input.len() == service.statistics.config.global.bufsize;
            let ask = Ask { request, persistence, whole: body.is_some(), full, end };
            let done = match self.decide(service, &ask, out) {
                Decision::Reply(reply, end) if reply.silent => {
                    self.finish(service, Some(request), reply.status, end, 0);
                    return (0, Next::Close);
                }
                Decision::Reply(reply, end) => self.give(service, &ask, reply, end, out),
                Decision::Page(page, end) => self.give_page(service, &ask, page, end, out),
                Decision::Later(next) => return (0, next),
                Decision::Bad(end) => return self.bad(service, 400, end, out),
                Decision::Reject => {
                    self.finish(service, Some(request), 0, &DENIED, 0);
                    return (0, Next::Close);
                }
            };
            if !done {
                return (0, Next::Write);
            }
            // what came of a body that is not whole is thrown away
            let taken = body.map_or(input.len(), |body| request.length + body);
            if let Some((_, framing)) = &mut self.page {
                framing.taken = taken as u32;
                return (0, Next::Write);
            }
            if persistence != Persistence::Close {
                return (taken, Next::Read);
            }
            // what may still come after a last answer must not reset it
            let quiet = body.is_some() && taken == input.len();
            (taken, if quiet { Next::Close } else { self.linger(service) })
        }

        fn linger(&mut self, service: &Service) -> Next {
            self.draining = true;
            self.since_ms = service.statistics.now_ms;
            Next::Linger
        }

        // ---- who answers ---------------------------------------------------

        /// In HAProxy's order: monitor-uri, http-request rules, stats, and 503
        /// for the rest.
        #[inline(never)]
        fn decide(&mut self, service: &mut Service, ask: &Ask, out: &mut Out) -> Decision {
            let config = self.config;
            let scene = || self.scene(service, Some(ask.request), Outcome::default());
            let first = |rules: &[Rule]| {
                let scene = if rules.is_empty() { return None } else { scene() };
                rules.iter().position(|rule| rule.holds(&config.acls, &scene))
            };
            if config.monitor_uri == Some(ask.request.target) {
                let failed = config.monitor_fail.iter().any(|condition| condition.holds(&config.acls, &scene()));
                let reply = service.statistics.config.reply(config, if failed { 503 } else { 200 });
                return Decision::Reply(reply, &MONITORED);
            }
            let rule = first(&config.rules).map(|at| &config.rules[at]);
            if let Some(rule) = rule.filter(|rule| !matches!(rule.action, Action::Allow)) {
                return self.act(service, ask, &rule.action, &INTERCEPTED);
            }
            if let Some(stats) = &config.stats
                && place(ask.request.method, "GET HEAD POST").is_some()
                && let Some(options) = ask.request.local().strip_prefix(stats.uri)
            {
                let rule = first(&stats.rules);
                return self.statistics(service, ask, stats, rule, options, out);
            }
            Decision::Reply(service.statistics.config.reply(config, 503), &UNSERVED)
        }

        /// What a rule says.
        fn act(&mut self, service: &Service, ask: &Ask, action: &'static Action, end: End) -> Decision {
            let config = self.config;
            let own = |answer: &'static Answer| {
                let configured = config.configured(answer.reply.status).filter(|_| answer.is_standard);
                configured.unwrap_or(answer.reply)
            };
            match action {
                Action::Return(answer) => Decision::Reply(own(answer), end),
                Action::Deny(answer) => Decision::Reply(own(answer), &DENIED),
                Action::Tarpit(answer) => {
                    let now_ms = service.statistics.now_ms;
                    if self.tarpit_until_ms == 0 {
                        self.tarpit_until_ms = now_ms + u64::from(config.tarpit_ms());
                    }
                    match now_ms < self.tarpit_until_ms {
                        true => Decision::Later(Next::Wait),
                        false => Decision::Reply(own(answer), &DENIED),
                    }
                }
                Action::Allow | Action::Reject => Decision::Reject,
                Action::Metrics => match Page::metrics(config, ask.request.query()) {
                    Some(page) => Decision::Page(page, &METRICS_PAGE),
                    None => Decision::Bad(&METRICS),
                },
            }
        }

        /// The statistics, for who may see them: `rule` is the first that holds.
        #[inline(never)]
        fn statistics(
            &mut self,
            service: &mut Service,
            ask: &Ask,
            stats: &'static Stats,
            rule: Option<usize>,
            options: &[u8],
            out: &mut Out,
        ) -> Decision {
            if let Some(at) = rule {
                // the last rule stands for the `stats auth` lines, if there are any
                let challenge = at + 1 == stats.rules.len() && !stats.users.is_empty();
                let known = challenge && rules::authenticated(ask.request, &stats.users);
                if !known && !matches!(stats.rules[at].action, Action::Allow) {
                    return self.act(service, ask, &stats.rules[at].action, &STATISTICS);
                }
            }
            if ask.request.method != b"POST" {
                return Decision::Page(Page::stats(self.config, options), &PAGE);
            }
            // the page is read-only: a POST is sent back to it, after its body
            if ask.whole || ask.full {
                return Decision::Reply(&stats.sent_back[usize::from(!ask.whole)], &STATISTICS);
            }
            if ask.end {
                return Decision::Bad(&CUT_OFF);
            }
            if ask.request.expects_continue && !self.continued {
                out.put("HTTP/1.1 100 Continue\r\n\r\n");
                self.continued = true;
            }
            Decision::Later(Next::Read)
        }

        // ---- answers -------------------------------------------------------

        /// Writes a reply and settles the accounts of its request; false where
        /// it has to wait until what was written before it is sent.
        fn give(&mut self, service: &mut Service, ask: &Ask, reply: &Reply, mut end: End, out: &mut Out) -> bool {
            let mark = out.len();
            let mut status = reply.status;
            self.write_reply(service, ask, reply, end, out);
            if out.full {
                out.truncate(mark);
                if mark > 0 {
                    return false;
                }
                // a format string that grew beyond a buffer
                (status, end) = (500, &TOO_LARGE);
                let reply = service.statistics.config.reply(self.config, 500);
                self.write_reply(service, ask, reply, end, out);
            }
            self.finish(service, Some(ask.request), status, end, (out.len() - mark) as u64);
            true
        }

        fn write_reply(&self, service: &Service, ask: &Ask, reply: &Reply, end: End, out: &mut Out) {
            let head_only = ask.request.is_head();
            if !reply.write_fixed(head_only, ask.persistence, out) {
                // what a log tells of its end is not known to an answer
                let outcome = Outcome { flags: "----", request_ms: -1, ..self.outcome(service, reply.status, end, 0) };
                reply.write(&self.scene(service, Some(ask.request), outcome), head_only, ask.persistence, out);
            }
        }

        /// Writes a page, whole with its length if one buffer holds it, else
        /// its first part; [`Self::go_on`] writes the others.
        #[inline(never)]
        fn give_page(&mut self, service: &mut Service, ask: &Ask, mut page: Page, end: End, out: &mut Out) -> bool {
            let mark = out.len();
            if mark > 0 && out.room() < 2 * PAGE_HEAD {
                return false;
            }
            // the page shows its own request, as intercepted
            self.counters(service).add(Count::Intercepted, 1);
            out.gap(PAGE_HEAD);
            out.keep_free(CHUNK_END);
            let complete = page.write(&service.statistics, out);
            out.keep_free(0);
            if !complete && mark > 0 {
                out.truncate(mark);
                self.counters(service).take_back(Count::Intercepted);
                return false;
            }
            let body = out.len() - mark - PAGE_HEAD;
            let chunked = !complete && !ask.request.is_old();
            let keep = ask.persistence != Persistence::Close && (complete || chunked);
            let mut head = [0; PAGE_HEAD];
            let mut fields = Out::new(&mut head);
            page.fields(&mut fields);
            if complete {
                fields.put("content-length: ").num(body as i64).put("\r\n");
            } else if chunked {
                fields.put("transfer-encoding: chunked\r\n");
            }
            fields.put(if keep { ask.persistence } else { Persistence::Close }.field());
            if ask.request.is_head() {
                out.truncate(mark + PAGE_HEAD);
            } else if chunked {
                fields.hex(body).put("\r\n");
                out.put("\r\n");
            }
            out.fill_gap(mark, PAGE_HEAD, fields.written());
            let bytes = (out.len() - mark) as u64;
            if complete || ask.request.is_head() {
                self.finish(service, Some(ask.request), 200, end, bytes);
            } else {
                self.page = Some((page, Framing { chunked, keep, end, taken: 0, bytes }));
            }
            true
        }

        /// Writes the next part of a long page once the one before is sent.
        #[inline(never)]
        fn go_on(
            &mut self,
            mut page: Page,
            mut framing: Framing,
            service: &mut Service,
            input: &[u8],
            out: &mut Out,
        ) -> Next {
            if out.len() > 0 {
                self.page = Some((page, framing));
                return Next::Write;
            }
            out.gap(CHUNK_SIZE);
            out.keep_free(CHUNK_END);
            let complete = page.write(&service.statistics, out);
            out.keep_free(0);
            let body = out.len() - CHUNK_SIZE;
            let mut size = [0; CHUNK_SIZE];
            let mut line = Out::new(&mut size);
            if framing.chunked && body > 0 {
                line.hex(body).put("\r\n");
                out.put("\r\n");
            }
            out.fill_gap(0, CHUNK_SIZE, line.written());
            if framing.chunked && complete {
                out.put("0\r\n\r\n");
            }
            framing.bytes += out.len() as u64;
            if !complete {
                self.page = Some((page, framing));
                return Next::Write;
            }
            self.finish_later(service, input, 200, framing.end, framing.bytes);
            if framing.keep { Next::Read } else { Next::Close }
        }

        /// Answers what is no request, and closes.
        fn bad(&mut self, service: &mut Service, status: u16, end: End, out: &mut Out) -> (usize, Next) {
            let mark = out.len();
            let scene = self.scene(service, None, Outcome::default());
            let reply = service.statistics.config.reply(self.config, status);
            reply.write(&scene, false, Persistence::Close, out);
            if out.full {
                out.truncate(mark);
                return (0, Next::Write);
            }
            self.count(service);
            self.finish(service, None, status, end, (out.len() - mark) as u64);
            (0, self.linger(service))
        }

        // ---- timers --------------------------------------------------------

        /// The deadline has come.
        pub fn expired(&mut self, service: &mut Service, input: &[u8], out: &mut Out) -> Next {
            if self.tarpit_until_ms > 0 {
                return Next::Write;
            }
            let silent = self.requests > 0 || self.config.has(config::IGNORE_PROBES);
            if self.draining || self.page.is_some() || input.is_empty() && silent {
                return Next::Close;
            }
            let probe = input.is_empty() && self.config.has(config::DONTLOGNULL);
            self.bad(service, 408, if probe { &PROBE } else { &TIMED_OUT }, out).1
        }

        /// When the wait that goes on now ends, in milliseconds since the
        /// start; `u64::MAX` for never.
        pub fn deadline(&self, service: &Service, input: &[u8], sending: bool) -> u64 {
            let (config, now_ms) = (self.config, service.statistics.now_ms);
            let (start, limit) = match () {
                () if sending || self.page.is_some() => (now_ms, config.client_ms()),
                () if self.draining => return self.since_ms + LINGER_MS,
                () if self.tarpit_until_ms > 0 => return self.tarpit_until_ms,
                () if input.is_empty() && self.requests > 0 => (self.since_ms, config.keep_alive_ms()),
                () if config.request_ms() > 0 => (self.since_ms, config.request_ms()),
                () => (now_ms, config.client_ms()),
            };
            if limit == 0 { u64::MAX } else { start + u64::from(limit) }
        }

        // ---- accounts ------------------------------------------------------

        /// One request more in hand.
        fn count(&mut self, service: &mut Service) {
            if !self.counted {
                self.counted = true;
                let now_ms = service.statistics.now_ms;
                let counters = self.counters(service);
                counters.add(Count::Requests, 1);
                counters.request_rate.add(now_ms, 1);
                service.statistics.process.requests_total += 1;
            }
        }

        /// One request less in hand: counts and logs how it ended.
        fn finish(&mut self, service: &mut Service, request: Option<&Request>, status: u16, end: End, bytes: u64) {
            let now_ms = service.statistics.now_ms;
            let counters = self.counters(service);
            counters.answered[usize::from(status / 100) % 6] += 1;
            counters.add(Count::BytesIn, request.map_or(0, |request| request.length as u64));
            counters.add(Count::BytesOut, bytes);
            if let Some(count) = end.count {
                counters.add(count, 1);
            }
            if end.count == Some(Count::NoServer) {
                counters.backend_rate.add(now_ms, 1);
                counters.backend_last_ms = Some(now_ms);
            }
            service.statistics.process.bytes_out += bytes;
            service.statistics.process.bytes_rate.add(now_ms, bytes);
            if !end.flags.is_empty() && !self.config.logs_connections {
                self.log(service, request, status, end, bytes);
            }
            self.counted = false;
            self.continued = false;
            self.tarpit_until_ms = 0;
            self.seen = 0;
            self.requests += 1;
            self.since_ms = now_ms;
        }

        /// The same, for a request that is read from the input once more.
        #[inline(never)]
        fn finish_later(&mut self, service: &mut Service, input: &[u8], status: u16, end: End, bytes: u64) {
            let mut slots = [http::EMPTY_HEADER; http::MAX_HEADERS];
            let parsed = http::parse(input, &mut slots);
            let request = if let Parsed::Head(request) = &parsed { Some(request) } else { None };
            self.finish(service, request, status, end, bytes);
        }

        fn outcome(&self, service: &Service, status: u16, end: End, bytes_out: u64) -> Outcome {
            let total_ms = service.statistics.now_ms.saturating_sub(self.since_ms) as i64;
            Outcome {
                status: if status == 0 { -1 } else { status.into() },
                bytes_in: 0,
                bytes_out: bytes_out as i64,
                flags: end.flags,
                server: end.server,
                request_ms: if end.flags == INTERCEPTED.flags { total_ms } else { -1 },
                server_ms: if end.server == NOBODY { -1 } else { 0 },
                total_ms,
            }
        }

        fn log(&self, service: &mut Service, request: Option<&Request>, status: u16, end: End, bytes: u64) {
            let config = self.config;
            let normal = end.flags == INTERCEPTED.flags && status < 500;
            if config.targets.is_empty() || normal && config.has(config::DONTLOG_NORMAL) {
                return;
            }
            let bytes_in = request.map_or(0, |request| request.length as i64);
            let scene = self.scene(service, request, Outcome { bytes_in, ..self.outcome(service, status, end, bytes) });
            for target in &config.targets {
                service.log.line(*target, |out| config.format.write(&scene, out));
            }
        }

        fn scene<'a>(&'a self, service: &Service, request: Option<&'a Request<'a, 'a>>, outcome: Outcome) -> Scene<'a> {
            let all = &service.statistics;
            Scene {
                request,
                origin: &self.origin,
                outcome,
                frontend: self.config.name,
                hostname: all.config.global.hostname,
                counts: [
                    all.process.connections,
                    all.proxies[self.config.index()].sessions,
                    all.process.requests_total,
                ],
            }
        }
    }
}

/// Counters, the table of columns, and every format of the statistics. Owns
/// the numbers; reads config; writes with out.
///
/// Every format is a template: texts that are made at start, and between them
/// what depends on the moment. A page is written by going through one.
mod stats {
    use self::Count::*;
    use crate::config::{Config, Proxy, Stats};
    use crate::out::{Out, Text, escaped, find, number, parts, place, split, split_at_byte};

    /// Most characters of `scope=` that are looked at.
    const MAX_SCOPE: usize = 20;
    /// Most addresses that `stats show-legends` lists.
    const MAX_LEGENDS: usize = 16;

    /// What is counted, one after the other.
    #[derive(Clone, Copy, PartialEq)]
    pub enum Count {
        BytesIn,
        BytesOut,
        WireIn,
        Connections,
        Denied,
        BadRequests,
        NoServer,
        Intercepted,
        InternalErrors,
        H1Sessions,
        OtherSessions,
        Requests,
    }
    const COUNTS: usize = Requests as usize + 1;

    /// Events over the last second: this second's, and a share of the one
    /// before that shrinks as this one goes by.
    #[derive(Clone, Copy, Default)]
    pub struct Rate {
        since_ms: u64,
        current: u64,
        previous: u64,
        pub max: u64,
    }

    impl Rate {
        pub fn add(&mut self, now_ms: u64, events: u64) {
            let age = now_ms.saturating_sub(self.since_ms);
            if age >= 1000 {
                self.previous = if age < 2000 { self.current } else { 0 };
                self.current = 0;
                self.since_ms = now_ms - age % 1000;
            }
            self.current += events;
            self.max = self.max.max(self.read(now_ms));
        }

        pub fn read(&self, now_ms: u64) -> u64 {
            match now_ms.saturating_sub(self.since_ms) {
                age @ 0..1000 => self.current + self.previous * (1000 - age) / 1000,
                age @ 1000..2000 => self.current * (2000 - age) / 1000,
                _ => 0,
            }
        }
    }

    /// The numbers of one proxy.
    #[derive(Default)]
    pub struct Counters {
        counts: [u64; COUNTS],
        /// Answers by the first digit of their status; 0 for no answer at all.
        pub answered: [u64; 6],
        pub sessions: u64,
        pub sessions_max: u64,
        pub connection_rate: Rate,
        pub request_rate: Rate,
        /// Of a listen section's backend side.
        pub backend_rate: Rate,
        pub backend_last_ms: Option<u64>,
    }

    impl Counters {
        pub fn add(&mut self, count: Count, by: u64) {
            self.counts[count as usize] += by;
        }

        pub fn take_back(&mut self, count: Count) {
            self.counts[count as usize] -= 1;
        }
    }

    /// The numbers of the process, and what it was started with.
    #[derive(Default)]
    pub struct Process {
        pub connections: u64,
        pub connections_total: u64,
        pub connections_max: u64,
        pub requests_total: u64,
        pub bytes_out: u64,
        pub connection_rate: Rate,
        pub bytes_rate: Rate,
        pub started_wall: u64,
        pub maxconn: u32,
        pub max_files: u64,
        pub buffers_in_use: u64,
        pub memory_bytes: u64,
        pub listeners: u64,
        pub stopping: bool,
        pub dropped_logs: u64,
        /// Times that accepting had to wait for a place.
        pub waits: u64,
    }

    /// All numbers, and the templates of the pages that show them.
    pub struct Statistics {
        pub config: &'static Config,
        /// Milliseconds since the start, read once per turn of the loop.
        pub now_ms: u64,
        pub process: Process,
        pub proxies: Vec<Counters>,
        templates: [&'static [Piece]; KINDS],
        csv: std::cell::Cell<Memo>,
    }

    /// A page as it was last written, and the values in it.
    #[derive(Default)]
    struct Memo {
        text: Vec<u8>,
        values: Vec<Written>,
    }

    /// A value, and where it stands in a page.
    struct Written {
        row: usize,
        cell: Cell,
        key: u64,
        at: std::ops::Range<usize>,
    }

    impl Statistics {
        pub fn new(config: &'static Config, process: Process) -> Self {
            let proxies = config.proxies.iter().map(|_| Counters::default()).collect();
            let templates = templates(config);
            let values = Vec::with_capacity(templates[Kind::Csv as usize].len());
            let csv = Memo { text: Vec::with_capacity(config.global.bufsize), values }.into();
            Self { config, now_ms: 0, process, proxies, templates, csv }
        }

        /// A line of a table: two for each proxy. What belongs to no line is
        /// written as if it were on the first.
        fn row(&self, at: usize) -> Row<'_> {
            let at = if at / 2 < self.proxies.len() { at } else { 0 };
            let (proxy, numbers) = (&self.config.proxies[at / 2], &self.proxies[at / 2]);
            Row { all: self, proxy, numbers, backend: at % 2 == 1 }
        }
    }

    // ---- columns -------------------------------------------------------------

    /// A proxy's frontend side or its backend side.
    struct Row<'a> {
        all: &'a Statistics,
        proxy: &'a Proxy,
        numbers: &'a Counters,
        backend: bool,
    }

    impl Row<'_> {
        fn side<T>(&self, front: T, back: T) -> T {
            if self.backend { back } else { front }
        }

        fn count(&self, count: Count) -> u64 {
            self.numbers.counts[count as usize]
        }

        /// What only a frontend counts.
        fn front(&self, count: Count) -> u64 {
            self.side(self.count(count), 0)
        }

        fn rate(&self) -> &Rate {
            self.side(&self.numbers.connection_rate, &self.numbers.backend_rate)
        }

        fn limit(&self) -> u64 {
            u64::from(self.proxy.maxconn.unwrap_or(self.all.process.maxconn))
        }

        fn answered(&self, class: usize) -> u64 {
            self.side(self.numbers.answered[class], if class == 5 { self.count(NoServer) } else { 0 })
        }
    }

    enum Value {
        Text(Text),
        Number(u64),
        /// Seconds, -1 for never.
        Age(i64),
    }
    use Value::{Age, Number};
    type Cell = fn(&Row) -> Value;

    /// Names, more than one separated by `|`; tags (origin, nature, scope) for
    /// a frontend and for a backend, `=` for the same ones, `-` where it does
    /// not fill the column;
    /// the frontend's metric, if there is one. Then what stands there: None
    /// for what is always 0.
    #[rustfmt::skip]
    const COLUMNS: &[(&str, Option<Cell>)] = &[
        ("pxname KNS =", Some(|r| Value::Text(r.proxy.name))),
        ("svname KNS =", Some(|r| Value::Text(r.side(b"FRONTEND", b"BACKEND")))),
        ("qcur - MGP", None),
        ("qmax - MMP", None),
        ("scur MGP = current_sessions", Some(|r| Number(r.side(r.numbers.sessions, 0)))),
        ("smax MMP = max_sessions", Some(|r| Number(r.side(r.numbers.sessions_max, r.count(NoServer).min(1))))),
        ("slim CLP = limit_sessions", Some(|r| Number(r.side(r.limit(), r.limit().div_ceil(10))))),
        ("stot MCP = sessions_total", Some(|r| Number(r.side(r.count(Connections), r.count(NoServer))))),
        ("bin MCP = bytes_in_total", Some(|r| Number(r.count(BytesIn)))),
        ("bout MCP = bytes_out_total", Some(|r| Number(r.count(BytesOut)))),
        ("dreq MCP = requests_denied_total", Some(|r| Number(r.front(Denied)))),
        ("dresp MCP = responses_denied_total", None),
        ("ereq MCP - request_errors_total", Some(|r| Number(r.count(BadRequests)))),
        ("econ - MCP", Some(|r| Number(r.count(NoServer)))),
        ("eresp|wretr|wredis - MCP", None),
        ("status SGP = status", Some(|r| Value::Text(if r.all.process.stopping { b"STOP" } else { r.side(b"OPEN", b"UP") }))),
        ("weight - MaP", None),
        ("act|bck - MGP", None),
        ("chkfail - -", None),
        ("chkdown - MCP", None),
        ("lastchg - MAP", Some(|r| Number(r.all.now_ms / 1000))),
        ("downtime|qlimit - -", None),
        ("pid KGP =", Some(|_| Number(1))),
        ("iid KGS =", Some(|r| Number(r.proxy.id.into()))),
        ("sid KGS =", None),
        ("throttle - -", None),
        ("lbtot - MCP", None),
        ("tracked - -", None),
        ("type CGS =", Some(|r| Number(r.backend.into()))),
        ("rate MRP MGP", Some(|r| Number(r.rate().read(r.all.now_ms)))),
        ("rate_lim CLP - limit_session_rate", None),
        ("rate_max MMP MGP max_session_rate", Some(|r| Number(r.rate().max))),
        ("check_status|check_code|check_duration - -", None),
        ("hrsp_1xx MCP = http_responses_total", Some(|r| Number(r.answered(1)))),
        ("hrsp_2xx MCP = http_responses_total", Some(|r| Number(r.answered(2)))),
        ("hrsp_3xx MCP = http_responses_total", Some(|r| Number(r.answered(3)))),
        ("hrsp_4xx MCP = http_responses_total", Some(|r| Number(r.answered(4)))),
        ("hrsp_5xx MCP = http_responses_total", Some(|r| Number(r.answered(5)))),
        ("hrsp_other MCP = http_responses_total", Some(|r| Number(r.answered(0)))),
        ("hanafail - -", None),
        ("req_rate MRP -", Some(|r| Number(r.numbers.request_rate.read(r.all.now_ms)))),
        ("req_rate_max MMP - http_requests_rate_max", Some(|r| Number(r.numbers.request_rate.max))),
        ("req_tot MCP = http_requests_total", Some(|r| Number(r.side(r.count(Requests), r.count(NoServer))))),
        ("cli_abrt|srv_abrt - MCP", None),
        ("comp_in MCP = http_comp_bytes_in_total", None),
        ("comp_out MCP = http_comp_bytes_out_total", None),
        ("comp_byp MCP = http_comp_bytes_bypassed_total", None),
        ("comp_rsp MCP = http_comp_responses_total", None),
        ("lastsess - MAP", Some(|r| {
            Age(r.numbers.backend_last_ms.map_or(-1, |ms| (r.all.now_ms.saturating_sub(ms) / 1000) as i64))
        })),
        ("last_chk|last_agt - -", None),
        ("qtime|ctime|rtime|ttime - MaP", None),
        ("agent_status|agent_code|agent_duration|check_desc|agent_desc|check_rise|check_fall|check_health|\
          agent_rise|agent_fall|agent_health|addr|cookie - -", None),
        ("mode CGS =", Some(|r| Value::Text(if r.proxy.http { b"http" } else { b"tcp" }))),
        ("algo - -", None),
        ("conn_rate MRP -", Some(|r| Number(r.numbers.connection_rate.read(r.all.now_ms)))),
        ("conn_rate_max MMP - connections_rate_max", Some(|r| Number(r.numbers.connection_rate.max))),
        ("conn_tot MCP - connections_total", Some(|r| Number(r.count(Connections)))),
        ("intercepted MCP - intercepted_requests_total", Some(|r| Number(r.count(Intercepted)))),
        ("dcon MCP - denied_connections_total", None),
        ("dses MCP - denied_sessions_total", None),
        ("wrew MCP = failed_header_rewriting_total", None),
        ("connect|reuse - MCP", None),
        ("cache_lookups MCP = http_cache_lookups_total", None),
        ("cache_hits MCP = http_cache_hits_total", None),
        ("srv_icur|src_ilim - -", None),
        ("qtime_max|ctime_max|rtime_max|ttime_max - MMP", None),
        ("eint MCP = internal_errors_total", Some(|r| Number(r.front(InternalErrors)))),
        ("idle_conn_cur|safe_conn_cur|used_conn_cur|need_conn_est - -", None),
        ("uweight - MaP", None),
        ("agg_server_status|agg_server_check_status|agg_check_status - MGP", None),
        ("srid - -", None),
        ("sess_other MCP -", Some(|r| Number(r.count(OtherSessions)))),
        ("h1sess MCP -", Some(|r| Number(r.count(H1Sessions)))),
        ("h2sess|h3sess MCP -", None),
        ("req_other MCP -", None),
        ("h1req MCP -", Some(|r| Number(r.count(Requests)))),
        ("h2req|h3req MCP -", None),
        ("proto - -", None),
        ("- - -", None), // no name and no place, but a dash, in the CSV alone
        ("ssl_sess|ssl_reused_sess|ssl_failed_handshake|h2_headers_rcvd|h2_data_rcvd|h2_settings_rcvd|\
          h2_rst_stream_rcvd|h2_goaway_rcvd|h2_detected_conn_protocol_errors|h2_detected_strm_protocol_errors|\
          h2_rst_stream_resp|h2_goaway_resp MCP =", None),
        ("h2_open_connections|h2_backend_open_streams MGP =", None),
        ("h2_total_connections|h2_backend_total_streams MCP =", None),
        ("h1_open_connections MGP =", Some(|r| Number(r.side(r.numbers.sessions, 0)))),
        ("h1_open_streams MGP =", Some(|r| Number(r.side(r.count(Requests) - r.numbers.answered.iter().sum::<u64>(), 0)))),
        ("h1_total_connections MCP =", Some(|r| Number(r.front(H1Sessions)))),
        ("h1_total_streams MCP =", Some(|r| Number(r.front(Requests)))),
        ("h1_bytes_in MCP =", Some(|r| Number(r.front(WireIn)))),
        ("h1_bytes_out MCP =", Some(|r| Number(r.front(BytesOut)))),
        ("h1_spliced_bytes_in|h1_spliced_bytes_out MCP =", None),
    ];

    /// One column of the table above, for one of its names; the one that is a
    /// dash has none.
    struct Column {
        name: Text,
        /// Of a frontend and of a backend; empty where it does not fill it.
        tags: [Text; 2],
        metric: Text,
        cell: Option<Cell>,
        position: u64,
    }

    #[inline(never)]
    fn columns() -> Vec<Column> {
        let mut columns: Vec<Column> = Vec::new();
        for (text, cell) in COLUMNS {
            let mut words = split(text.as_bytes(), b' ');
            let mut word = || words.next().filter(|word| *word != b"-").unwrap_or(b"");
            let (names, front, back, metric) = (word(), word(), word(), word());
            let tags = [front, if back == b"=" { front } else { back }];
            for name in split(names, b'|') {
                let position = columns.iter().filter(|column| !column.name.is_empty()).count() as u64;
                columns.push(Column { name, tags, metric, cell: *cell, position });
            }
        }
        columns
    }

    /// Metrics of the process: names, whether they only grow, and the value.
    #[rustfmt::skip]
    const PROCESS: &[(&str, bool, Option<Cell>)] = &[
        ("nbthread|nbproc|relative_process_id|build_info", false, Some(|_| Number(1))),
        ("uptime_seconds", false, Some(|r| Number(r.all.now_ms / 1000))),
        ("start_time_seconds", false, Some(|r| Number(r.all.process.started_wall))),
        ("max_fds|max_sockets", false, Some(|r| Number(r.all.process.max_files))),
        ("max_connections|hard_max_connections", false, Some(|r| Number(r.all.process.maxconn.into()))),
        ("current_connections", false, Some(|r| Number(r.all.process.connections))),
        ("connections_total", true, Some(|r| Number(r.all.process.connections_total))),
        ("requests_total", true, Some(|r| Number(r.all.process.requests_total))),
        ("current_connection_rate|current_session_rate", false, Some(|r| Number(r.all.process.connection_rate.read(r.all.now_ms)))),
        ("max_connection_rate|max_session_rate", false, Some(|r| Number(r.all.process.connection_rate.max))),
        ("bytes_out_total", true, Some(|r| Number(r.all.process.bytes_out))),
        ("bytes_out_rate", false, Some(|r| Number(r.all.process.bytes_rate.read(r.all.now_ms)))),
        ("stopping", false, Some(|r| Number(r.all.process.stopping.into()))),
        ("jobs", false, Some(|r| Number(r.all.process.connections + r.all.process.listeners))),
        ("listeners", false, Some(|r| Number(r.all.process.listeners))),
        ("dropped_logs_total", true, Some(|r| Number(r.all.process.dropped_logs))),
        ("pool_allocated_bytes", false, Some(|r| Number(u64::from(r.all.process.maxconn) * 2 * r.all.config.global.bufsize as u64))),
        ("pool_used_bytes", false, Some(|r| Number(r.all.process.buffers_in_use * r.all.config.global.bufsize as u64))),
        ("limit_connection_rate|limit_session_rate|max_ssl_connections|current_ssl_connections|max_pipes|current_ssl_rate|\
          limit_ssl_rate|max_ssl_rate|current_frontend_ssl_key_rate|max_frontend_ssl_key_rate|frontend_ssl_reuse|\
          current_backend_ssl_key_rate|max_backend_ssl_key_rate|limit_http_comp|current_zlib_memory|max_zlib_memory|\
          unstoppable_jobs|active_peers|connected_peers|busy_polling_enabled|max_memory_bytes", false, None),
        ("pool_failures_total|ssl_connections_total|pipes_used_total|pipes_free_total|ssl_cache_lookups_total|\
          ssl_cache_misses_total|http_comp_bytes_in_total|http_comp_bytes_out_total|\
          spliced_bytes_out_total|recv_logs_total", true, None),
    ];

    // ---- templates -------------------------------------------------------------

    /// Which statistics are asked for, and where their template is.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Html,
        Csv,
        Typed,
        Json,
        Schema,
        Metrics,
    }
    const KINDS: usize = Kind::Metrics as usize + 1;

    /// A text, and what is written behind it.
    struct Piece {
        text: Text,
        /// The line of a table that it belongs to, or one of the two below.
        row: usize,
        fill: Fill,
    }
    /// A piece of no row, and one that stands before the rows of the metrics.
    const NO_ROW: usize = usize::MAX;
    const ROWS_HEAD: usize = usize::MAX - 1;

    #[derive(Clone, Copy)]
    enum Fill {
        Nothing,
        /// A value as it is; for people; in the colour of an alarm above zero.
        Plain(Cell),
        Pretty(Cell),
        Alarm(Cell),
        /// What separates the rows of JSON.
        Comma,
        /// What depends on the request for the page.
        Page(fn(&Page, &Statistics, &Stats, &mut Out)),
        /// Nothing, and the text neither, without `stats show-legends`.
        Legend,
    }

    /// A template that is being made.
    struct Draft {
        text: Vec<u8>,
        row: usize,
        pieces: Vec<Piece>,
    }

    impl Draft {
        fn new() -> Self {
            Self { text: Vec::new(), row: NO_ROW, pieces: Vec::new() }
        }

        fn put(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
            self.put_bytes(text.as_ref())
        }

        #[inline(never)]
        fn put_bytes(&mut self, text: &[u8]) -> &mut Self {
            self.text.extend_from_slice(text);
            self
        }

        /// See `put!`.
        fn form(&mut self, template: &str, values: &[&[u8]]) -> &mut Self {
            parts(template, values, &mut |part| self.text.extend_from_slice(part));
            self
        }

        #[inline(never)]
        fn fill(&mut self, fill: Fill) -> &mut Self {
            let text = text!("{}", self.text);
            self.text.clear();
            self.pieces.push(Piece { text, row: self.row, fill });
            self
        }

        /// A cell, or the 0 that it always is.
        fn cell(&mut self, cell: Option<Cell>, fill: fn(Cell) -> Fill) -> &mut Self {
            match cell {
                Some(cell) => self.fill(fill(cell)),
                None => self.put("0"),
            }
        }

        #[inline(never)]
        fn done(mut self) -> &'static [Piece] {
            self.fill(Fill::Nothing);
            self.pieces.leak()
        }

        /// Ends what belongs to one row.
        fn next_row(&mut self, row: usize) {
            self.fill(Fill::Nothing).row = row;
        }
    }

    impl Value {
        /// What tells it from other values of its cell.
        fn key(&self) -> u64 {
            match *self {
                Value::Text(text) => text.as_ptr() as u64,
                Number(number) => number,
                Age(seconds) => seconds as u64,
            }
        }
    }

    impl Fill {
        /// Writes the value of a cell.
        fn write(self, row: &Row, out: &mut Out) {
            match self {
                Fill::Plain(cell) => match cell(row) {
                    Value::Text(text) => drop(out.put(text)),
                    Number(number) => drop(out.num(number as i64)),
                    Age(seconds) => drop(out.num(seconds)),
                },
                Fill::Pretty(cell) => pretty(row, cell, out),
                Fill::Alarm(cell) => {
                    out.put(if matches!(cell(row), Number(0)) { ">" } else { " class=bad>" });
                    pretty(row, cell, out);
                }
                _ => {}
            }
        }
    }

    /// The rows that a configuration has: two for a listen section.
    fn rows(config: &Config) -> impl Iterator<Item = usize> {
        let has = |at: &usize| at.is_multiple_of(2) || config.proxies[at / 2].is_listen;
        (0..config.proxies.len() * 2).filter(has)
    }

    /// Makes the template of every kind of page.
    #[inline(never)]
    fn templates(config: &Config) -> [&'static [Piece]; KINDS] {
        let columns = columns();
        let [mut csv, mut typed, mut json] = [Draft::new(), Draft::new(), Draft::new()];
        csv.put("# ");
        for column in &columns {
            csv.put(if column.name.is_empty() { b"-" } else { column.name }).put(",");
        }
        csv.put("\n");
        json.put("[");
        for at in rows(config) {
            [&mut csv, &mut typed, &mut json].into_iter().for_each(|draft| draft.next_row(at));
            json.fill(Fill::Comma);
            for column in &columns {
                let tags = column.tags[at % 2];
                if column.name.is_empty() {
                    csv.put("-");
                } else if !tags.is_empty() {
                    csv.cell(column.cell, Fill::Plain);
                    typed_field(column, tags, at, &mut typed);
                    json_field(column, tags, at, &mut json);
                }
                csv.put(",");
            }
            csv.put("\n");
            json.put("]");
        }
        json.next_row(NO_ROW);
        json.put("]\n");
        [html(config, &columns), csv.done(), typed.done(), json.done(), schema(), metrics(config, &columns)]
    }

    /// Type of a column in the typed and the JSON format.
    fn type_of(column: &Column, tags: Text) -> &'static str {
        // counters are 64 bits wide, and so are the gauges of the HTTP muxes
        let wide = tags[1] == b'C' || column.name.starts_with(b"h1_") || column.name.starts_with(b"h2_");
        match place(column.name, "pxname svname status mode algo lastsess") {
            Some(5) => "s32",
            Some(_) => "str",
            None if wide => "u64",
            None => "u32",
        }
    }

    fn typed_field(column: &Column, tags: Text, at: usize, draft: &mut Draft) {
        let side = if at.is_multiple_of(2) { "F" } else { "B" };
        put!(draft, "{}.{}.0.{}.{}", side, number(at as u64 / 2 + 1), number(column.position), column.name);
        put!(draft, ".1:{}:{}:", tags, type_of(column, tags)).cell(column.cell, Fill::Plain).put("\n");
    }

    fn json_field(column: &Column, tags: Text, at: usize, draft: &mut Draft) {
        let (comma, side) = (["", ","][usize::from(column.position > 0)], ["Frontend", "Backend"][at % 2]);
        let (id, position) = (number(at as u64 / 2 + 1), number(column.position));
        put!(draft, "{}{\"objType\":\"{}\",\"proxyId\":{},\"id\":0,\"field\":{\"pos\":{}", comma, side, id, position);
        put!(draft, ",\"name\":\"{}\"},\"processNum\":1,\"tags\":", column.name);
        for (&letter, (name, words)) in tags.iter().zip(TAGS) {
            let same = |word: &Text| word[0] == letter || letter == b'a' && *word == b"Avg";
            let comma = if *name == "origin" { "{" } else { "," };
            put!(draft, "{}\"{}\":\"{}\"", comma, name, split(words.as_bytes(), b' ').find(same).unwrap_or(b""));
        }
        let kind = type_of(column, tags);
        let quote = if kind == "str" { "\"" } else { "" };
        put!(draft, "},\"value\":{\"type\":\"{}\",\"value\":{}", kind, quote);
        draft.cell(column.cell, Fill::Plain).put(quote).put("}}");
    }

    /// Words for the three letters of a column's tags.
    const TAGS: &[(&str, &str)] = &[
        ("origin", "Metric Status Key Config"),
        ("nature", "Gauge Limit Max Rate Counter Age Name Duration Time Output Avg"),
        ("scope", "Process Service Cluster System"),
    ];

    /// JSON Schema (draft 4) of what `;json` gives.
    #[inline(never)]
    fn schema() -> &'static [Piece] {
        let mut draft = Draft::new();
        draft.put(r##"{"$schema":"http://json-schema.org/draft-04/schema#","title":"Statistics","type":"array","items":{"type":"array","items":{"type":"object","properties":{"objType":{"enum":["Frontend","Backend"]},"proxyId":{"type":"integer","minimum":1},"id":{"type":"integer","minimum":0},"field":{"type":"object","properties":{"pos":{"type":"integer","minimum":0},"name":{"type":"string"}},"required":["pos","name"]},"processNum":{"type":"integer","minimum":1},"tags":{"type":"object","properties":{"##);
        for (name, words) in TAGS {
            put!(draft, "{}\"{}\":{\"enum\":[", if *name == "origin" { "" } else { "," }, name);
            for (at, word) in split(words.as_bytes(), b' ').enumerate() {
                put!(draft, "{}\"{}\"", if at > 0 { "," } else { "" }, word);
            }
            draft.put("]}");
        }
        draft.put(r##"},"required":["origin","nature","scope"]},"value":{"type":"object","properties":{"type":{"enum":["str","u32","u64","s32"]},"value":{"type":["string","integer"]}},"required":["type","value"]}},"required":["objType","proxyId","id","field","processNum","tags","value"]}}}"##);
        draft.put("\n");
        draft.done()
    }

    /// HELP and TYPE of a metric (Prometheus text format 0.0.4).
    fn help(object: &str, name: Text, counter: bool, draft: &mut Draft) {
        put!(
            draft,
            "# HELP haproxy_{}_{} {} of the {}.\n",
            object,
            name,
            split(name, b'_').collect::<Vec<_>>().join(&b' '),
            object
        );
        put!(draft, "# TYPE haproxy_{}_{} {}\n", object, name, if counter { "counter" } else { "gauge" });
    }

    #[inline(never)]
    fn metrics(config: &Config, columns: &[Column]) -> &'static [Piece] {
        let mut draft = Draft::new();
        for (names, counter, value) in PROCESS {
            for name in split(names.as_bytes(), b'|') {
                help("process", name, *counter, &mut draft);
                let label =
                    if name == b"build_info" { concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}") } else { "" };
                put!(draft, "haproxy_process_{}{}", name, label);
                match value {
                    Some(value) => draft.put(" ").fill(Fill::Plain(*value)),
                    None => draft.put(" 0"),
                };
                draft.put("\n");
            }
        }
        for column in columns.iter().filter(|column| !column.metric.is_empty()) {
            draft.next_row(ROWS_HEAD);
            let code = column.name.strip_prefix(b"hrsp_");
            if code.unwrap_or(b"1xx") == b"1xx" {
                help("frontend", column.metric, column.tags[0][1] == b'C', &mut draft);
            }
            for at in rows(config).filter(|at| at.is_multiple_of(2)) {
                draft.next_row(at);
                let mut sample = |label: &str, value: Text, cell: Option<Cell>| {
                    put!(draft, "haproxy_frontend_{}{proxy=\"{}", column.metric, config.proxies[at / 2].name);
                    if !label.is_empty() {
                        put!(draft, "\",{}=\"{}", label, value);
                    }
                    draft.put("\"} ").cell(cell, Fill::Plain).put("\n");
                };
                match code {
                    Some(code) => sample("code", code, column.cell),
                    None if column.name == b"status" => {
                        sample("state", b"DOWN", Some(|r| Number(r.all.process.stopping.into())));
                        sample("state", b"UP", Some(|r| Number((!r.all.process.stopping).into())));
                    }
                    None => sample("", b"", column.cell),
                }
            }
        }
        draft.done()
    }

    // ---- pages -----------------------------------------------------------------

    /// A page that is being written, piece by piece: what was asked for, and
    /// how far it has got. It is a few bytes, so that a client that reads
    /// slowly holds no page.
    #[derive(Clone)]
    pub struct Page {
        kind: Kind,
        /// Next piece to write.
        piece: u32,
        /// The proxy whose page it is.
        owner: &'static Proxy,
        hide_down: bool,
        no_refresh: bool,
        /// A row was written.
        begun: bool,
        /// Of the metrics: those of the process, those of frontends.
        global: bool,
        frontends: bool,
        banner: Text,
        scope: [u8; MAX_SCOPE],
        scope_len: u8,
    }

    /// What `;st=` may say, and the text of its banner.
    const BANNERS: Text = b"DONE The action was carried out.|NONE Nothing was changed.|\
        PART The action was carried out in part.|ERRP The action could not be understood.|\
        EXCD The request was too large.|DENY The action was refused: this page is read-only.|UNKN The result is not known.";

    impl Page {
        /// The page that the part of a target behind the stats URI asks for.
        pub fn stats(owner: &'static Proxy, options: &[u8]) -> Self {
            let has = |word: &[u8]| find(options, word).is_some();
            let kind = match () {
                () if has(b";csv") => Kind::Csv,
                () if has(b";typed") => Kind::Typed,
                () if has(b";json-schema") => Kind::Schema,
                () if has(b";json") => Kind::Json,
                () => Kind::Html,
            };
            let mut page = Self::new(kind, owner);
            page.hide_down = has(b";up");
            page.no_refresh = has(b";norefresh");
            if let Some(at) = find(options, b";st=") {
                let state = &options[at + 4..];
                let banner = split(BANNERS, b'|').find(|banner| state.starts_with(&banner[..4]));
                page.banner = banner.map_or(b"", |banner| &banner[5..]);
            }
            if let Some(at) = find(options, b"scope=") {
                let value = options[at + 6..].iter().take_while(|byte| !matches!(byte, b'&' | b';'));
                for (room, byte) in page.scope.iter_mut().zip(value) {
                    *room = *byte;
                    page.scope_len += 1;
                }
            }
            page
        }

        /// The metrics for a query; None for a scope that does not exist.
        pub fn metrics(owner: &'static Proxy, query: &[u8]) -> Option<Self> {
            let mut page = Self::new(Kind::Metrics, owner);
            let mut chosen = false;
            for pair in split(query, b'&') {
                let Some(value) = pair.strip_prefix(b"scope=") else { continue };
                chosen = true;
                // of the last four, there is nothing
                match place(value, "* global frontend backend server listener sticktable") {
                    Some(0) => (page.global, page.frontends) = (true, true),
                    Some(1) => page.global = true,
                    Some(2) => page.frontends = true,
                    Some(_) => {}
                    None if value.is_empty() => (page.global, page.frontends) = (false, false),
                    None => return None,
                }
            }
            page.global |= !chosen;
            page.frontends |= !chosen;
            Some(page)
        }

        fn new(kind: Kind, owner: &'static Proxy) -> Self {
            let [hide_down, no_refresh, begun, global, frontends] = [false; 5];
            let (scope, scope_len, banner) = ([0; MAX_SCOPE], 0, &b""[..]);
            Self { kind, piece: 0, owner, hide_down, no_refresh, begun, global, frontends, banner, scope, scope_len }
        }

        /// Header fields of the answer before its framing.
        pub fn fields(&self, out: &mut Out) {
            out.put("HTTP/1.1 200 OK\r\ncache-control: no-cache\r\ncontent-type: ").put(match self.kind {
                Kind::Html => "text/html\r\n",
                Kind::Csv | Kind::Typed => "text/plain\r\n",
                Kind::Json | Kind::Schema => "application/json\r\n",
                Kind::Metrics => "text/plain; version=0.0.4\r\n",
            });
            let refresh = self.owner.stats.as_ref().map_or(0, |stats| stats.refresh);
            if refresh > 0 && !self.no_refresh && self.kind != Kind::Metrics {
                out.put("refresh: ").num(refresh.into()).put("\r\n");
            }
        }

        /// Writes pieces while they fit; true when the page is complete. A whole
        /// CSV is kept for the next time.
        pub fn write(&mut self, all: &Statistics, out: &mut Out) -> bool {
            let whole = self.kind == Kind::Csv && self.piece == 0 && self.scope_len == 0 && self.limits().is_empty();
            if !whole {
                return self.write_anew(all, out, None);
            }
            let mut memo = all.csv.take();
            let start = out.len();
            let mut complete = Self::write_again(all, &mut memo, out);
            if !complete {
                memo.text.clear();
                memo.values.clear();
                complete = self.write_anew(all, out, Some(&mut memo.values));
                if complete {
                    memo.text.extend_from_slice(&out.written()[start..]);
                }
            }
            all.csv.set(memo);
            complete
        }

        /// Writes a page as it was, with what differs written over; false where
        /// that has another length, where there is no whole one or no room.
        #[inline(never)]
        fn write_again(all: &Statistics, memo: &mut Memo, out: &mut Out) -> bool {
            if memo.text.is_empty() || memo.text.len() > out.room() {
                return false;
            }
            let (mut row, mut before) = (all.row(NO_ROW), NO_ROW);
            for written in &mut memo.values {
                if before != written.row {
                    before = written.row;
                    row = all.row(before);
                }
                let value = (written.cell)(&row);
                if value.key() != written.key {
                    written.key = value.key();
                    let mut buffer = itoa::Buffer::new();
                    let digits = buffer.format(written.key as i64).as_bytes();
                    if digits.len() != written.at.len() || matches!(value, Value::Text(_)) {
                        return false;
                    }
                    memo.text[written.at.clone()].copy_from_slice(digits);
                }
            }
            out.put(&memo.text);
            true
        }

        /// Writes pieces while they fit, and notes the values of a CSV.
        fn write_anew(&mut self, all: &Statistics, out: &mut Out, mut values: Option<&mut Vec<Written>>) -> bool {
            let start = out.len();
            let mut row = all.row(NO_ROW);
            let mut before = (usize::MAX / 2, false);
            while let Some(piece) = all.templates[self.kind as usize].get(self.piece as usize) {
                if before.0 != piece.row {
                    before = (piece.row, self.shows(all.config, piece.row));
                    row = all.row(piece.row);
                }
                if before.1 {
                    let mark = out.len();
                    self.write_piece(&row, piece, out);
                    if out.full {
                        out.truncate(mark);
                        return false;
                    }
                    self.begun |= matches!(piece.fill, Fill::Comma);
                    if let (Fill::Plain(cell), Some(values)) = (piece.fill, &mut values) {
                        let at = mark - start + piece.text.len()..out.len() - start;
                        values.push(Written { row: piece.row, cell, key: cell(&row).key(), at });
                    }
                }
                self.piece += 1;
            }
            true
        }

        /// Names of the proxies that `stats scope` limits it to, if any.
        fn limits(&self) -> &[Text] {
            self.owner.stats.as_ref().map_or(&[], |stats| &stats.scope)
        }

        /// Whether the pieces of a row are on this page.
        fn shows(&self, config: &Config, row: usize) -> bool {
            let metrics = self.kind == Kind::Metrics;
            let Some(proxy) = config.proxies.get(row / 2) else {
                return !metrics || if row == NO_ROW { self.global } else { self.frontends };
            };
            let owner = self.owner;
            let scope = &self.scope[..usize::from(self.scope_len)];
            let limited = self.limits();
            let named = |name: &Text| *name == proxy.name || *name == b"." && proxy.name == owner.name;
            let chosen = (limited.is_empty() || limited.iter().any(named))
                && (scope.is_empty() || proxy.name.windows(scope.len()).any(|part| part.eq_ignore_ascii_case(scope)));
            !proxy.disabled && if metrics { self.frontends } else { chosen }
        }

        /// Writes one piece, which fits into the least `tune.bufsize` with a
        /// head beside it.
        fn write_piece(&self, row: &Row, piece: &Piece, out: &mut Out) {
            let stats = self.owner.stats.as_ref();
            if let (Fill::Legend, false) = (piece.fill, stats.is_some_and(|stats| stats.legends)) {
                return;
            }
            out.put(piece.text);
            match piece.fill {
                Fill::Nothing | Fill::Legend => {}
                Fill::Comma => drop(out.put(if self.begun { ",[" } else { "[" })),
                Fill::Page(write) => stats.into_iter().for_each(|stats| write(self, row.all, stats, out)),
                value => value.write(row, out),
            }
        }

        // ---- the page for people -----------------------------------------------

        /// Title and description.
        fn top(&self, all: &Statistics, stats: &Stats, out: &mut Out) {
            put!(out, "<title>{}: statistics</title><header><h1>Statistics of {}", stats.title, stats.title);
            out.put("</h1><p>").put(stats.shown_description);
            let version = if stats.hide_version { "" } else { concat!(" version ", env!("CARGO_PKG_VERSION")) };
            let stopping = if all.process.stopping { " <b class=bad>stopping</b>" } else { "" };
            put!(out, "</p><p>tiny-haproxy{}{}</p></header>", version, stopping);
            if !self.banner.is_empty() {
                put!(out, "<p class=banner>{} <a href='", self.banner).put(stats.shown_uri).put("'>Dismiss</a></p>");
            }
        }

        /// What can be chosen.
        fn options(&self, _: &Statistics, stats: &Stats, out: &mut Out) {
            let scope = &self.scope[..usize::from(self.scope_len)];
            let mut link = |up: bool, still: bool, options: &str, text: &str| {
                out.put("<a href='").put(stats.shown_uri).put(options);
                out.put(if up { ";up" } else { "" }).put(if still { ";norefresh" } else { "" });
                if !scope.is_empty() {
                    out.put(if stats.uri.contains(&b'?') { "&amp;scope=" } else { "?scope=" }).html(scope);
                }
                out.put("'>").put(text).put("</a> ");
            };
            let (up, still) = (self.hide_down, self.no_refresh);
            link(up, still, "", "Refresh now");
            link(up, !still, "", if still { "Turn refresh on" } else { "Turn refresh off" });
            link(!up, still, "", if up { "Show down" } else { "Hide down" });
            link(false, true, ";csv", "CSV");
            link(false, true, ";json", "JSON");
            link(false, false, ";json-schema", "JSON schema");
            out.put("<form><label>Scope <input name=scope size=10 maxlength=20 value='").html(scope);
        }
    }

    #[inline(never)]
    fn html(config: &Config, columns: &[Column]) -> &'static [Piece] {
        let named = |name: &[u8]| columns.iter().find(|column| column.name == name).unwrap_or(&columns[0]);
        let mut draft = Draft::new();
        put!(draft, "{}{}</style>", PAGE_TOP, STYLE).fill(Fill::Page(Page::top));
        put!(draft, "<dl><div><dt>pid<dd>{}</div><div><dt>uptime<dd>", number(crate::sys::pid()));
        draft.fill(Fill::Page(|_, all, _, out| uptime(all.now_ms / 1000, out))).put("</div>");
        for (label, alarming, value) in FACTS {
            let fill = if *alarming { Fill::Alarm } else { Fill::Pretty };
            put!(draft, "<div><dt>{}{}", label, if *alarming { "<dd" } else { "<dd>" })
                .fill(fill(*value))
                .put("</div>");
        }
        draft.put("</dl><nav>").fill(Fill::Page(Page::options));
        draft.put("'></label></form><span class=key><i class=open></i>open <i class=full></i>at its limit ");
        draft.put("<i class=stop></i>stopping</span></nav>");
        let (mut titles, mut labels) = (Draft::new(), Draft::new());
        let mut cells_of = Vec::new();
        for group in split(GROUPS.as_bytes(), b'|') {
            let (title, cells) = split_at_byte(group, b'=');
            put!(titles, "<th colspan={}>{}", number(split(cells, b' ').count() as u64), title);
            for (at, cell) in split(cells, b' ').enumerate() {
                let (label, name) = split_at_byte(cell, b':');
                let class = if at == 0 { " class=g>" } else { ">" };
                put!(labels, "<th{}{}", class, label);
                cells_of.push((class, named(name)));
            }
        }
        let heads = text!("</small></h2><div class=wide><table><tr><th rowspan=2>{}<tr>{}", titles.text, labels.text);
        for at in rows(config) {
            draft.next_row(at);
            if at.is_multiple_of(2) {
                html_title(&config.proxies[at / 2], &mut draft);
                draft.put(heads);
            }
            draft.put("<tr><td>").put(if at.is_multiple_of(2) { "Frontend" } else { "Backend" });
            for (class, column) in &cells_of {
                put!(draft, "<td{}", class);
                if !column.tags[at % 2].is_empty() {
                    draft.cell(column.cell, Fill::Pretty);
                }
            }
            if at % 2 == 1 || !config.proxies[at / 2].is_listen {
                draft.put("</table></div><dl class=s>");
                draft.next_row(at / 2 * 2);
                for detail in split(DETAILS.as_bytes(), b'|') {
                    let (label, name) = split_at_byte(detail, b':');
                    let alarming = place(name, "hrsp_5xx eint").is_some();
                    put!(draft, "<div><dt>{}{}", label, if alarming { "<dd" } else { "<dd>" });
                    draft.cell(named(name).cell, if alarming { Fill::Alarm } else { Fill::Pretty }).put("</div>");
                }
                draft.put("</dl>");
            }
        }
        draft.done()
    }

    fn html_title(proxy: &Proxy, draft: &mut Draft) {
        let description = escaped(proxy.description);
        put!(draft, "<h2 id='{}'>{} <small>{}", proxy.name, proxy.name, description).fill(Fill::Nothing);
        put!(draft, " mode {}, id {}", if proxy.http { "http" } else { "tcp" }, number(proxy.id.into()));
        for bind in proxy.binds.iter().take(MAX_LEGENDS) {
            put!(draft, ", {}", bind.shown);
        }
        draft.fill(Fill::Legend);
    }

    /// A value for people.
    fn pretty(row: &Row, cell: Cell, out: &mut Out) {
        match cell(row) {
            Number(number) => grouped(number, out),
            Age(seconds @ 0..) => uptime(seconds as u64, out),
            Age(_) => {}
            Value::Text(status) => {
                let full = !row.backend && row.numbers.sessions >= row.limit();
                out.put("<b class=").put(match status {
                    b"STOP" => "stop>",
                    _ if full => "full>",
                    _ => "open>",
                });
                out.put(status).put("</b>");
            }
        }
    }

    /// A number with a thin space between its thousands.
    fn grouped(number: u64, out: &mut Out) {
        if number < 1000 {
            out.num(number as i64);
            return;
        }
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(number as i64).as_bytes();
        let (first, rest) = digits.split_at((digits.len() - 1) % 3 + 1);
        out.put(first);
        for group in rest.chunks(3) {
            out.put("&#8239;").put(group);
        }
    }

    /// `1d 2h3m4s`
    fn uptime(seconds: u64, out: &mut Out) {
        let mut rest = seconds;
        for &(unit, name) in &[(86_400, "d "), (3600, "h"), (60, "m"), (1, "s")] {
            if seconds >= unit || unit == 1 {
                out.num((rest / unit) as i64).put(name);
                rest %= unit;
            }
        }
    }

    /// What stands on top, of the process; whether it alarms above zero.
    const FACTS: &[(&str, bool, Cell)] = &[
        ("connections now", false, |r| Number(r.all.process.connections)),
        ("of at most", false, |r| Number(r.all.process.maxconn.into())),
        ("most so far", false, |r| Number(r.all.process.connections_max)),
        ("times full", true, |r| Number(r.all.process.waits)),
        ("connections/s", false, |r| Number(r.all.process.connection_rate.read(r.all.now_ms))),
        ("bits/s out", false, |r| Number(r.all.process.bytes_rate.read(r.all.now_ms) * 8)),
        ("connections", false, |r| Number(r.all.process.connections_total)),
        ("requests", false, |r| Number(r.all.process.requests_total)),
        ("KiB reserved", false, |r| Number(r.all.process.memory_bytes >> 10)),
        ("file limit", false, |r| Number(r.all.process.max_files)),
        ("logs dropped", true, |r| Number(r.all.process.dropped_logs)),
    ];

    /// Column groups of the page: each label with its column of the CSV.
    const GROUPS: &str = "Queue=Cur:qcur Max:qmax Limit:qlimit|Session rate=Cur:rate Max:rate_max Limit:rate_lim|\
        Sessions=Cur:scur Max:smax Limit:slim Total:stot LbTot:lbtot Last:lastsess|Bytes=In:bin Out:bout|\
        Denied=Req:dreq Resp:dresp|Errors=Req:ereq Conn:econ Resp:eresp|Warnings=Retr:wretr Redis:wredis|\
        Server=Status:status Wght:weight Act:act Bck:bck Chk:chkfail Dwn:chkdown Dwntme:downtime";

    /// What stands below a proxy's table, always in view: label and column.
    const DETAILS: &str = "requests:req_tot|requests/s:req_rate|at most:req_rate_max|1xx:hrsp_1xx|2xx:hrsp_2xx|\
        3xx:hrsp_3xx|4xx:hrsp_4xx|5xx:hrsp_5xx|other:hrsp_other|intercepted:intercepted|failures:eint|\
        connections:conn_tot|connections/s:conn_rate|at most:conn_rate_max";

    const PAGE_TOP: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
        <meta name=viewport content='width=device-width'><link rel=icon href='data:,'><style>";

    const STYLE: &str = ":root{color-scheme:light dark;--l:#8884;--ok:#287a4a;--warn:#a65c00;--bad:#c22}\
body{font:15px/1.4 system-ui,sans-serif;margin:0 auto;padding:.6em 1em;max-width:120em}\
h1,h2{margin:.4em 0 .2em;font-size:1.4em}h2{font-size:1.15em;margin-top:1.2em}header p{margin:0;opacity:.75}\
small{font-weight:400;opacity:.7;font-size:.85em}\
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(8em,1fr));gap:.4em;margin:.7em 0}\
dl.s{grid-template-columns:repeat(auto-fill,minmax(6.2em,1fr));margin:.4em 0}\
dl div{border:1px solid var(--l);border-radius:.4em;padding:.25em .6em}\
dt{font-size:.8em;opacity:.7}dd{margin:0;font-size:1.1em;font-variant-numeric:tabular-nums}\
nav{display:flex;flex-wrap:wrap;gap:.4em 1.2em;align-items:center;border:solid var(--l);border-width:1px 0;padding:.5em 0}\
form{margin:0}input{font:inherit}.key i{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin:0 .3em 0 .6em}\
.open{background:var(--ok)}.full{background:var(--warn)}.stop{background:var(--bad)}.bad{color:var(--bad)}\
.banner{border-left:.4em solid var(--warn);padding:.4em .8em;background:var(--l)}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}\
th,td{padding:.25em .5em;text-align:right;white-space:nowrap;border-bottom:1px solid var(--l)}\
th{font-size:.8em;font-weight:600}th[colspan]{text-align:center}th[colspan],.g{border-left:1px solid var(--l)}\
tr>:first-child:not(.g){text-align:left;position:sticky;left:0;background:Canvas}\
td b{padding:.1em .5em;border-radius:.6em;color:#fff}@media(prefers-color-scheme:dark){.bad{color:#f77}}";
}

/// The configuration: sections, the table of keywords, every setting. Calls
/// rules, words, http and log to compile their parts.
mod config {
    use crate::http;
    use crate::out::{Text, decimal, escaped, number, place, split, split_at_byte};
    use crate::rules::{self, Acl, Action, Answer, Condition, Format, Reply, Rule, Userlists};
    use crate::sys;
    use crate::words::{self, Line};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    /// Largest `maxconn`, and what it is where none is set and memory allows.
    pub const MAXCONN_MAX: u64 = 1_000_000;
    pub const MAXCONN_DEFAULT: u32 = 1000;
    const MAX_PROXIES: usize = 128;
    /// Addresses, rules, ACLs of one proxy.
    const MAX_EACH: usize = 1024;
    const MAX_NAME: usize = 64;
    /// Bytes that a buffer may have.
    const MIN_BUFFER: u64 = 8192;
    const MAX_BUFFER: u64 = 1 << 20;
    /// Room that an answer's head and what is added to it take, in bytes.
    const HEAD_ROOM: usize = 1024;
    /// Messages of each level that are shown; the rest is passed over.
    const MAX_MESSAGES: usize = 100;

    /// One address, and how the configuration writes it.
    pub struct Bind {
        pub address: SocketAddr,
        pub shown: Text,
    }

    /// Options that are on or off: bits of [`Proxy::flags`].
    pub const DONTLOGNULL: u8 = 1;
    pub const DONTLOG_NORMAL: u8 = 2;
    pub const IGNORE_PROBES: u8 = 4;
    pub const HTTP_CLOSE: u8 = 8;
    const HTTPLOG: u8 = 16;
    const TCPLOG: u8 = 32;
    const LOG_GLOBAL: u8 = 64;

    /// Places in [`Proxy::timeouts`].
    const CLIENT: usize = 0;
    const HTTP_REQUEST: usize = 1;
    const KEEP_ALIVE: usize = 2;
    const TARPIT: usize = 3;

    #[derive(Default)]
    pub struct Stats {
        pub uri: Text,
        /// The URI, the title and the description of the page as HTML.
        pub shown_uri: Text,
        pub title: Text,
        pub shown_description: Text,
        /// Seconds, 0 for none.
        pub refresh: u32,
        realm: Text,
        /// Who is let in by `stats auth`.
        pub users: Vec<(Text, Text)>,
        pub hide_version: bool,
        node: Option<Text>,
        description: Text,
        pub legends: bool,
        /// Names of the proxies shown, `.` for the own one; empty for all.
        pub scope: Vec<Text>,
        /// What `stats http-request` lines say; with users, a challenge last.
        pub rules: Vec<Rule>,
        /// Answers to a POST that was read, and to one too large for it.
        pub sent_back: Vec<Reply>,
    }

    /// A frontend, a listen section, or the defaults that one begins with.
    #[derive(Default)]
    pub struct Proxy {
        pub name: Text,
        is_defaults: bool,
        pub is_listen: bool,
        /// Where it was declared.
        at: Text,
        /// Number in the order of declaration, from 1.
        pub id: u32,
        pub http: bool,
        pub disabled: bool,
        pub description: Text,
        pub binds: Vec<Bind>,
        pub maxconn: Option<u32>,
        /// In milliseconds; 0 waits for ever.
        pub timeouts: [u32; 4],
        flags: u8,
        pub monitor_uri: Option<Text>,
        pub monitor_fail: Vec<Condition>,
        pub stats: Option<Stats>,
        pub acls: Vec<Acl>,
        pub rules: Vec<Rule>,
        redirects: Vec<Rule>,
        /// Configured answers in place of the built-in ones.
        errors: Vec<Reply>,
        /// Descriptors to log to.
        pub targets: Vec<i32>,
        log_format: Option<Text>,
        /// A line for each request, or for each connection.
        pub format: Format,
        pub logs_connections: bool,
        /// Lines of a defaults section, which are read again for its users.
        lines: Vec<&'static [Text]>,
    }

    impl Proxy {
        /// Place among the proxies of the configuration.
        pub fn index(&self) -> usize {
            self.id as usize - 1
        }

        /// What an `errorfile` says for a status; of several, the last.
        pub fn configured(&self, status: u16) -> Option<&Reply> {
            self.errors.iter().rfind(|reply| reply.status == status)
        }

        pub fn has(&self, flag: u8) -> bool {
            self.flags & flag != 0
        }

        /// The time limit of a place, which [`CLIENT`] stands in for.
        fn timeout(&self, place: usize) -> u32 {
            if self.timeouts[place] > 0 { self.timeouts[place] } else { self.timeouts[CLIENT] }
        }

        /// Milliseconds of inactivity, 0 for no limit.
        pub fn client_ms(&self) -> u32 {
            self.timeouts[CLIENT]
        }

        /// Milliseconds from a request's first byte to its last, 0 where it has
        /// no limit of its own.
        pub fn request_ms(&self) -> u32 {
            self.timeouts[HTTP_REQUEST]
        }

        /// Milliseconds between two requests.
        pub fn keep_alive_ms(&self) -> u32 {
            if self.timeouts[KEEP_ALIVE] > 0 { self.timeouts[KEEP_ALIVE] } else { self.timeout(HTTP_REQUEST) }
        }

        pub fn tarpit_ms(&self) -> u32 {
            self.timeout(TARPIT)
        }

        /// Checks what can only be known at the end, and completes the proxy.
        #[inline(never)]
        fn finish(&mut self, global_targets: &[i32], lists: &Userlists, report: &mut Report) {
            let mut warn = |text: &[u8]| {
                report.add(WARNING, text!("proxy '{}' at [{}] {}", self.name, self.at, text));
            };
            if self.binds.is_empty() && !self.disabled {
                warn(b"has no 'bind' and will never serve");
            }
            if self.client_ms() == 0 {
                warn(b"has no 'timeout client' : a dead client keeps its place for ever");
            }
            if !self.http && (self.stats.is_some() || !self.rules.is_empty() || self.monitor_uri.is_some()) {
                warn(b"is not in 'mode http' : its stats, monitor and http-request lines are ignored");
            }
            if self.has(LOG_GLOBAL) {
                self.targets.extend_from_slice(global_targets);
            }
            let format = match self.log_format {
                Some(format) => format,
                None if self.has(HTTPLOG) && self.http => rules::HTTPLOG,
                None if self.has(HTTPLOG | TCPLOG) => rules::TCPLOG,
                None => rules::CONNECTION_LOG,
            };
            self.logs_connections = format == rules::CONNECTION_LOG;
            // what is configured was checked when it was read
            self.format.compile(format, true, lists, &mut Line::new(&[]));
            self.rules.append(&mut self.redirects);
            if let Some(stats) = &mut self.stats {
                stats.shown_uri = escaped(stats.uri);
                stats.title = escaped(stats.node.unwrap_or(self.name));
                stats.shown_description = escaped(stats.description);
                if !stats.users.is_empty() {
                    stats.rules.push(Rule { action: challenge(stats.realm), condition: None });
                }
                for state in [b";st=DENY", b";st=EXCD"] {
                    let mut reply = Reply::new(303);
                    reply.before.text(b"cache-control: no-cache\r\ncontent-type: text/plain\r\n");
                    reply.after.text(text!("location: {}{}\r\n", stats.uri, state));
                    reply.prepare();
                    stats.sent_back.push(reply);
                }
            }
        }
    }

    /// The `global` section.
    #[derive(Default)]
    pub struct Global {
        pub maxconn: Option<u32>,
        /// Bytes of a buffer, and what of it a request's head may not have.
        pub bufsize: usize,
        maxrewrite: usize,
        /// Milliseconds that a soft stop may take, 0 for ever.
        pub hard_stop: u32,
        pub hostname: Text,
        node: Text,
        description: Text,
        targets: Vec<i32>,
    }

    pub struct Config {
        pub global: Global,
        pub proxies: Vec<Proxy>,
        /// Answers that the program gives of itself, that of 500 first.
        standard: Vec<Reply>,
    }

    impl Config {
        /// Bytes that a request's head may have: 400 above.
        pub fn head_limit(&self) -> usize {
            self.global.bufsize - self.global.maxrewrite
        }

        /// Whether there is an address to listen on.
        pub fn listens(&self) -> bool {
            self.proxies.iter().any(|proxy| !proxy.disabled && !proxy.binds.is_empty())
        }

        /// The answer for one of the program's own statuses: configured, or
        /// built in.
        pub fn reply<'a>(&'a self, proxy: &'a Proxy, status: u16) -> &'a Reply {
            let built_in = || self.standard.iter().find(|reply| reply.status == status);
            proxy.configured(status).or_else(built_in).unwrap_or(&self.standard[0])
        }
    }

    pub const ALERT: &str = "ALERT";
    pub const WARNING: &str = "WARNING";
    const NOTICE: &str = "NOTICE";

    /// Messages of one start, shown together.
    #[derive(Default)]
    pub struct Report(Vec<(&'static str, Text)>);

    impl Report {
        pub fn has(&self, level: &str) -> bool {
            self.0.iter().any(|message| message.0 == level)
        }

        fn add(&mut self, level: &'static str, text: Text) {
            if self.0.iter().filter(|message| message.0 == level).count() < MAX_MESSAGES {
                self.0.push((level, text));
            }
        }

        pub fn print(&self, verbose: bool) {
            for (level, text) in self.0.iter().filter(|message| verbose || message.0 != NOTICE) {
                sys::message(level, text!("config : {}", text));
            }
        }
    }

    /// What becomes of a keyword.
    enum Fate {
        Set(fn(&mut Parser, &mut Line) -> Option<()>),
        /// An option: the bits to set, and those to clear.
        Flag(u8, u8),
        /// A time limit, by its place.
        Time(usize),
        /// Accepted without an effect: what it governs does not exist here.
        Ignored,
        Refused(&'static &'static str),
    }
    use Fate::{Flag, Ignored, Refused, Set, Time};

    const GLOBAL: u8 = 1;
    const DEFAULTS: u8 = 2;
    const FRONTEND: u8 = 4;
    const LISTEN: u8 = 8;
    const USERLIST: u8 = 16;
    const PROXY: u8 = DEFAULTS | FRONTEND | LISTEN;
    const SERVES: u8 = FRONTEND | LISTEN;
    const ANY: u8 = 63;
    /// In the order of their bits.
    const SECTIONS: &str = "global defaults frontend listen userlist";

    /// Every word that is known, several separated by `|`, with a `*` for what
    /// may follow; the sections they may stand in; and their fate.
    #[rustfmt::skip]
    const KEYWORDS: &[(&str, u8, Fate)] = &[
        // the process
        ("maxconn", GLOBAL | PROXY, Set(|p, l| {
            let value = l.number(0, MAXCONN_MAX)? as u32;
            *(if p.is_global() { &mut p.global.maxconn } else { &mut p.proxy().maxconn }) = (value > 0).then_some(value);
            Some(())
        })),
        ("description", GLOBAL | PROXY, Set(|p, l| {
            *(if p.is_global() { &mut p.global.description } else { &mut p.proxy().description }) = l.joined()?;
            Some(())
        })),
        ("hard-stop-after", GLOBAL, Set(|p, l| { p.global.hard_stop = l.time("ms")?; Some(()) })),
        ("nbproc|nbthread", GLOBAL, Set(|_, l| l.number(1, 1).map(drop))),
        ("node", GLOBAL, Set(|p, l| { p.global.node = l.text("a name")?; Some(()) })),
        ("tune.bufsize", GLOBAL, Set(|p, l| {
            let word = l.need("a size")?;
            let size = match word { [digits @ .., b'k'] => decimal(digits, 8, 1024).map(|k| k << 10), _ => decimal(word, MIN_BUFFER, MAX_BUFFER) };
            match size { Some(size) => p.global.bufsize = size as usize, None => return l.wrong(word, b"is no size from 8192 to 1024k") }
            Some(())
        })),
        ("tune.maxrewrite", GLOBAL, Set(|p, l| { p.global.maxrewrite = l.number(0, MAX_BUFFER)? as usize; Some(()) })),
        ("user", GLOBAL | USERLIST, Set(user)),
        ("group", GLOBAL | USERLIST, Ignored),
        ("busy-polling|ca-base|chroot|cpu-map|crt-base|daemon|expose-experimental-directives|gid|httpclient.*|\
          insecure-fork-wanted|localpeer|log-send-hostname|master-worker|maxcomp*|maxpipes|maxsslconn|maxsslrate|nogetaddrinfo|\
          noreuseport|nosplice|numa-cpu-mapping|pidfile|quiet|server-state-base|server-state-file|set-dumpable|\
          spread-checks|ssl-*|stats maxconn|stats timeout|strict-limits|tune.h2.*|tune.idle-pool.shared|tune.lua.*|\
          tune.maxaccept|tune.maxpollevents|tune.quic.*|tune.rcvbuf.*|tune.sndbuf.*|tune.ssl.*|tune.vars.*|uid|ulimit-n|\
          unix-bind|zero-warning", GLOBAL, Ignored),
        ("stats socket", GLOBAL, Refused(&"there is no command line interface")),
        ("default-path|noepoll|presetenv|setenv|lua-load|maxconnrate|maxsessrate|tune.http.maxhdr", GLOBAL, Refused(&CANNOT)),
        // logs
        ("log", GLOBAL | PROXY, Set(log)),
        ("log-format", PROXY, Set(|p, l| {
            let text = l.need("a format")?;
            p.proxy().log_format = Some(text);
            // compiled at the end; checked here, where the line is known
            Format::default().compile(text, true, &p.userlists, l)
        })),
        ("log-tag", GLOBAL | PROXY, Ignored), // only in formats with a header
        ("option dontlog-normal", PROXY, Flag(DONTLOG_NORMAL, 0)),
        ("option dontlognull", PROXY, Flag(DONTLOGNULL, 0)),
        ("option httplog", PROXY, Flag(HTTPLOG, TCPLOG)),
        ("option tcplog", PROXY, Flag(TCPLOG, HTTPLOG)),
        // proxies
        ("acl", SERVES, Set(acl)),
        ("bind", SERVES, Set(bind)),
        ("disabled", PROXY, Set(|p, _| { p.proxy().disabled = true; Some(()) })),
        ("enabled", PROXY, Set(|p, _| { p.proxy().disabled = false; Some(()) })),
        ("errorfile", PROXY, Set(|p, l| {
            let status = l.number(200, 599)? as u16;
            let mut reply = Reply::from_file(p.file(l)?, status, l)?;
            p.fits(&mut reply, l)?;
            p.proxy().errors.push(reply);
            Some(())
        })),
        ("mode", PROXY, Set(|p, l| { p.proxy().http = l.one_of("mode", "tcp http")? == 1; Some(()) })),
        ("monitor fail", SERVES, Set(|p, l| {
            let Some(condition) = p.condition(l)? else { return l.wrong(b"", b"'if' or 'unless' is missing") };
            p.proxy().monitor_fail.push(condition);
            Some(())
        })),
        ("monitor-uri", PROXY, Set(|p, l| { p.proxy().monitor_uri = Some(l.need("a URI")?); Some(()) })),
        ("option http-ignore-probes", PROXY, Flag(IGNORE_PROBES, 0)),
        ("option http-keep-alive", PROXY, Flag(0, HTTP_CLOSE)),
        ("option httpclose", PROXY, Flag(HTTP_CLOSE, 0)),
        ("timeout client", PROXY, Time(CLIENT)),
        ("timeout http-request", PROXY, Time(HTTP_REQUEST)),
        ("timeout http-keep-alive", PROXY, Time(KEEP_ALIVE)),
        ("timeout tarpit", PROXY, Time(TARPIT)),
        ("timeout check|timeout client-fin|timeout connect|timeout queue|timeout server|timeout server-fin|timeout tunnel",
            PROXY, Time(UNUSED)),
        ("backlog|balance|bind-process|default-server|fullconn|grace|hash-type|http-reuse|http-send-name-header|\
          load-server-state-from-file|max-keep-alive-queue|option abortonclose|option accept-invalid-http-response|\
          option allbackups|option checkcache|option clitcpka|option contstats|option disable-h2-upgrade|option forwardfor|\
          option http-buffer-request|option http-no-delay|option http-pretend-keepalive|option http-server-close|\
          option httpchk|option idle-close-on-response|option independent-streams|option log-health-checks|\
          option log-separate-errors|option logasap|option nolinger|option originalto|option persist|\
          option prefer-last-server|option redispatch|option socket-stats|option splice-auto|option splice-request|option splice-response|\
          option srvtcpka|option tcp-check|option tcp-smart-accept|option tcp-smart-connect|option tcpka|persist|retries|\
          retry-on|source|stats show-modules", PROXY, Ignored),
        ("cookie|default_backend|dispatch|email-alert|force-persist|http-check|http-response|ignore-persist|\
          option transparent|server|server-template|stats admin|tcp-check|use_backend|use-fcgi-app|use-server",
            PROXY, Refused(&NO_SERVERS)),
        ("capture|declare|http-request add-acl*|http-request cache-use|http-request capture|http-request del-acl*|\
          http-request del-map*|http-request sc-*|http-request set-map*|http-request set-var*|http-request track-sc*|\
          http-request unset-var*|stick|stick-table", PROXY, Refused(&NO_STATE)),
        ("compression|filter|http-after-response|tcp-request|tcp-response", PROXY, Refused(&"only whole requests are seen, and answered")),
        ("errorfiles|errorloc|errorloc302|errorloc303|http-error", PROXY,
            Refused(&"use 'errorfile', or 'http-request return' and 'redirect'")),
        ("http-request add-header|http-request del-header|http-request do-resolve*|http-request early-hint|\
          http-request normalize-uri|http-request replace-*|http-request set-*", PROXY, Refused(&"requests go nowhere, nothing would see the change")),
        ("http-request silent-drop|http-request wait-for-body|id|log-format-sd|option accept-invalid-http-request|\
          option h1-case-adjust-bogus-client|option http-use-proxy-header|rate-limit|unique-id-format|\
          unique-id-header", PROXY, Refused(&CANNOT)),
        // rules
        ("http-request allow", SERVES, Set(|p, l| p.rule(l, Action::Allow))),
        ("http-request auth", SERVES, Set(|p, l| {
            let realm = if l.take(b"realm") { l.text("a realm")? } else { p.proxy().name };
            p.rule(l, challenge(realm))
        })),
        ("http-request deny", SERVES, Set(|p, l| { let answer = p.answer(l, 403)?; p.rule(l, Action::Deny(answer)) })),
        ("http-request redirect", SERVES, Set(|p, l| { let answer = p.redirection(l)?; p.rule(l, Action::Return(answer)) })),
        ("http-request reject", SERVES, Set(|p, l| p.rule(l, Action::Reject))),
        ("http-request return", SERVES, Set(|p, l| { let answer = p.answer(l, 200)?; p.rule(l, Action::Return(answer)) })),
        ("http-request tarpit", SERVES, Set(|p, l| { let answer = p.answer(l, 500)?; p.rule(l, Action::Tarpit(answer)) })),
        ("http-request use-service", SERVES, Set(|p, l| { l.one_of("service", "prometheus-exporter")?; p.rule(l, Action::Metrics) })),
        ("redirect", SERVES, Set(|p, l| {
            let action = Action::Return(p.redirection(l)?);
            let condition = p.condition(l)?;
            p.proxy().redirects.push(Rule { action, condition });
            Some(())
        })),
        // statistics: each of these words implies 'enable'
        ("stats auth", PROXY, Set(|p, l| {
            let (user, password) = split_at_byte(l.need("user:password")?, b':');
            p.stats().users.push((user, password));
            // the word holds a password: it is not shown
            if user.is_empty() || password.is_empty() { l.wrong(b"", b"'stats auth' needs 'user:password'") } else { Some(()) }
        })),
        ("stats enable", PROXY, Set(|p, _| { p.stats(); Some(()) })),
        ("stats hide-version", PROXY, Set(|p, _| { p.stats().hide_version = true; Some(()) })),
        ("stats http-request", SERVES, Set(stats_rule)),
        ("stats realm", PROXY, Set(|p, l| { p.stats().realm = l.text("a realm")?; Some(()) })),
        ("stats refresh", PROXY, Set(|p, l| { p.stats().refresh = l.time("s")?.div_ceil(1000); Some(()) })),
        ("stats scope", PROXY, Set(|p, l| { let name = l.need("a name")?; p.stats().scope.push(name); Some(()) })),
        ("stats show-desc", PROXY, Set(|p, l| {
            p.stats().description = if l.peek().is_none() { p.global.description } else { l.joined()? };
            Some(())
        })),
        ("stats show-legends", PROXY, Set(|p, _| { p.stats().legends = true; Some(()) })),
        ("stats show-node", PROXY, Set(|p, l| {
            p.stats().node = Some(if l.peek().is_none() { p.global.node } else { l.text("a name")? });
            Some(())
        })),
        ("stats uri", PROXY, Set(|p, l| { p.stats().uri = l.need("a URI")?; Some(()) })),
        // whole sections that are refused; their lines are passed over
        ("backend|fcgi-app|mailers|resolvers", ANY, Refused(&NO_SERVERS)),
        ("cache|peers", ANY, Refused(&NO_STATE)),
        ("http-errors|log-forward|program|ring|crt-list|.if|.elif|.else|.endif|.notice|.warning|.alert|.diag", ANY, Refused(&CANNOT)),
    ];
    const UNUSED: usize = usize::MAX;
    const CANNOT: &str = "nothing here can do it";
    const NO_SERVERS: &str = "there are no servers, nothing is forwarded";
    const NO_STATE: &str = "no tables, caches, variables or captures are kept";

    /// The name of a keyword that a line begins with.
    fn named(names: &'static str, words: &[Text]) -> Option<Text> {
        split(names.as_bytes(), b'|').find(|name| {
            let mut words = words.iter();
            split(name, b' ').all(|part| {
                let word = words.next().copied().unwrap_or(b"");
                part.strip_suffix(b"*").map_or(word == part, |begin| word.starts_with(begin))
            })
        })
    }

    /// The table as text, for `-vv` and for the README.
    #[inline(never)]
    pub fn support() -> Text {
        let mut text = b"Sections:".to_vec();
        let add = |text: &mut Vec<u8>, name: Text| {
            text.extend_from_slice(if text.ends_with(b":") { b" " } else { b", " });
            text.extend_from_slice(name);
        };
        split(SECTIONS.as_bytes(), b' ').for_each(|name| add(&mut text, name));
        for (kind, title) in ["\nSupported:", "\nAccepted without an effect:", "\nRefused:"].iter().enumerate() {
            text.extend_from_slice(title.as_bytes());
            for (names, _, fate) in KEYWORDS {
                let belongs = match fate {
                    Ignored | Time(UNUSED) => 1,
                    Refused(_) => 2,
                    _ => 0,
                };
                if kind == belongs {
                    split(names.as_bytes(), b'|').for_each(|name| add(&mut text, name));
                }
            }
        }
        for (is_alias, title) in [(false, "\nFetches:"), (true, "\nAliases:")] {
            text.extend_from_slice(title.as_bytes());
            for (names, ..) in rules::FETCHES {
                let chosen = split(names.as_bytes(), b' ').filter(|name| name.starts_with(b"%") == is_alias);
                chosen.for_each(|name| add(&mut text, name));
            }
        }
        text.extend_from_slice(b"\nPredefined ACLs:");
        split(rules::PREDEFINED, b',').for_each(|acl| add(&mut text, split_at_byte(acl, b' ').0));
        text.push(b'\n');
        text.leak()
    }

    /// Reads files one after the other into one [`Config`].
    pub struct Parser {
        report: Report,
        global: Global,
        /// All proxies read so far, the defaults sections among them; the last
        /// is the one being read where the section is one.
        proxies: Vec<Proxy>,
        userlists: Userlists,
        /// The section being read, as a bit; 0 for none or for a refused one.
        section: u8,
        refused: bool,
        /// Where it is read: `file:line`.
        at: Text,
    }

    impl Parser {
        pub fn new() -> Self {
            let hostname =
                sys::read_file(b"/proc/sys/kernel/hostname").map_or(&b"localhost"[..], <[u8]>::trim_ascii_end);
            let global = Global { bufsize: 16_384, maxrewrite: 1024, hostname, node: hostname, ..Global::default() };
            let (report, proxies, userlists) = (Report::default(), Vec::new(), Vec::new());
            Self { report, global, proxies, userlists, section: 0, refused: false, at: b"" }
        }

        /// An error that belongs to no line.
        pub fn fatal(&mut self, text: Text) {
            self.report.add(ALERT, text);
        }

        /// Says something about the line that is being read.
        fn say(&mut self, level: &'static str, text: &[u8]) {
            self.report.add(level, text!("parsing [{}] : {}", self.at, text));
        }

        fn is_global(&self) -> bool {
            self.section == GLOBAL
        }

        /// Reads one file. Errors go to the report, reading goes on.
        #[inline(never)]
        pub fn parse(&mut self, file: Text, text: Text) {
            (self.section, self.refused) = (0, false);
            for (at, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
                self.at = text!("{}:{}", file, number(at as u64 + 1));
                let Some(line) = line.strip_suffix(b"\n") else {
                    return self.say(ALERT, b"the last line has no line feed at its end, the file may be cut off");
                };
                match words::split(line.strip_suffix(b"\r").unwrap_or(line)) {
                    Ok([]) => {}
                    Ok(words) => {
                        if let Some(why) = self.statement(words) {
                            self.say(ALERT, why);
                        }
                    }
                    Err(why) => self.say(ALERT, why.as_bytes()),
                }
            }
        }

        /// Applies one line; gives what is wrong with it.
        fn statement(&mut self, words: &'static [Text]) -> Option<Text> {
            let mut line = Line::new(&words[1..]);
            if let Some(place) = place(words[0], SECTIONS) {
                (self.section, self.refused) = (0, true);
                if self.open(1 << place, &mut line).is_some() {
                    (self.section, self.refused) = (1 << place, false);
                }
                return line.error;
            }
            if self.section == DEFAULTS && !self.refused {
                self.proxy().lines.push(words);
            }
            if words.starts_with(&[b"no", b"log"]) && self.section & PROXY != 0 {
                self.proxy().targets.clear();
                self.proxy().flags &= !LOG_GLOBAL;
                return None;
            }
            let negated = words[0] == b"no" && words.len() > 1;
            let words = &words[usize::from(negated)..];
            let find = |here: u8| {
                KEYWORDS
                    .iter()
                    .filter(|keyword| keyword.1 & here != 0)
                    .find_map(|keyword| Some((keyword, named(keyword.0, words)?)))
            };
            let Some((keyword, name)) =
                find(self.section).or_else(|| find(!0)).filter(|found| !self.refused || found.0.1 == ANY)
            else {
                return if self.refused { None } else { Some(self.unknown(words)) };
            };
            let (name, rest) = words.split_at(split(name, b' ').count());
            let name = name.join(&b' ').leak();
            line = Line::new(rest);
            if keyword.1 & self.section == 0 && keyword.1 != ANY {
                return line.wrong(name, b"does not stand in this section").or(line.error);
            }
            let done = self.apply(&keyword.2, name, negated, &mut line);
            self.refused |= keyword.1 == ANY && words[0][0] != b'.';
            if let (Some(()), Some(word)) = (done, line.next()) {
                return Some(text!("unexpected '{}' after '{}'", word, name));
            }
            line.error
        }

        fn apply(&mut self, fate: &Fate, name: Text, negated: bool, line: &mut Line) -> Option<()> {
            match *fate {
                Set(_) | Time(_) if negated => return line.wrong(name, b"cannot be negated"),
                Set(apply) => return apply(self, line),
                Flag(on, off) => {
                    let (on, off) = if negated { (off, on) } else { (on, off) };
                    self.proxy().flags = self.proxy().flags & !off | on;
                }
                Time(place) => {
                    let time = line.time("ms")?;
                    match self.proxy().timeouts.get_mut(place) {
                        Some(timeout) => *timeout = time,
                        None => self.ignored(name),
                    }
                }
                Ignored => {
                    line.rest();
                    self.ignored(name);
                }
                Refused(why) => return line.wrong(name, text!("is not supported : {}", why)),
            }
            Some(())
        }

        fn ignored(&mut self, name: Text) {
            self.say(NOTICE, text!("'{}' is accepted and has no effect here", name));
        }

        /// What to say of an unknown word: with the nearest known one.
        fn unknown(&self, words: &[Text]) -> Text {
            let group = text!("{} ", words[0]);
            let begins = |names: &str| split(names.as_bytes(), b'|').any(|name| name.starts_with(group));
            let grouped = KEYWORDS.iter().any(|keyword| begins(keyword.0));
            let word = if grouped { words[..words.len().min(2)].join(&b' ').leak() } else { words[0] };
            let mut near = (usize::MAX, &b""[..]);
            for names in KEYWORDS.iter().map(|keyword| keyword.0) {
                for name in split(names.as_bytes(), b'|') {
                    // against an ungrouped word, only the first word of a name counts
                    let name = if grouped { name } else { split_at_byte(name, b' ').0 };
                    let far = distance(word, name);
                    near = if far < near.0 { (far, name) } else { near };
                }
            }
            let hint = if near.0 <= 1 + word.len() / 4 { text!("; did you mean '{}' ?", near.1) } else { b"" };
            text!("unknown keyword '{}'{}", word, hint)
        }

        /// Opens a section.
        fn open(&mut self, section: u8, line: &mut Line) -> Option<()> {
            let is_defaults = section == DEFAULTS;
            let name = match section {
                GLOBAL => return Some(()),
                DEFAULTS if matches!(line.peek(), None | Some(b"from")) => b"",
                _ => line.need("a name")?,
            };
            let fine = |&byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
            if name.len() > MAX_NAME || !name.iter().all(fine) {
                return line.wrong(name, b"is no name : letters, digits and '-_.:', at most 64");
            }
            if section == USERLIST {
                self.userlists.push((name, Vec::new()));
                return Some(());
            }
            let mut base = self.proxies.iter().rfind(|proxy| proxy.is_defaults && !is_defaults);
            if line.take(b"from") {
                let wanted = line.need("the name of a defaults section")?;
                base = self.proxies.iter().find(|proxy| proxy.is_defaults && proxy.name == wanted);
                if base.is_none() {
                    return line.wrong(wanted, b"is no defaults section that stands before this line");
                }
            }
            if let Some(word) = line.next() {
                return line.wrong(word, b"is unexpected : 'from' and a name may stand here, addresses go to 'bind'");
            }
            if self.proxies.len() == MAX_PROXIES {
                return line.wrong(b"", b"there are more than 128 proxies and defaults");
            }
            let lines = base.map_or(Vec::new(), |base| base.lines.clone());
            let same = self.proxies.iter().find(|other| !is_defaults && !other.is_defaults && other.name == name);
            if let Some(other) = same {
                let _: Option<()> =
                    line.wrong(b"", text!("the name '{}' is taken by the proxy at [{}]", name, other.at));
            }
            self.proxies.push(Proxy::default());
            let at = self.at;
            let proxy = self.proxy();
            (proxy.name, proxy.at, proxy.is_defaults, proxy.is_listen) = (name, at, is_defaults, section == LISTEN);
            // what was wrong with these lines, or without effect, was said when they were read
            let said = self.report.0.len();
            (self.section, self.refused) = (DEFAULTS, false);
            for words in lines {
                self.statement(words);
            }
            self.report.0.truncate(said);
            Some(())
        }

        /// The proxy being read. Only called where the section is one.
        #[inline(never)]
        fn proxy(&mut self) -> &mut Proxy {
            let last = self.proxies.len() - 1;
            &mut self.proxies[last]
        }

        fn stats(&mut self) -> &mut Stats {
            let fresh = || Stats { uri: b"/haproxy?stats", realm: b"HAProxy Statistics", ..Stats::default() };
            self.proxy().stats.get_or_insert_with(fresh)
        }

        /// Completes what was read.
        pub fn finish(mut self) -> (Config, Report) {
            if self.global.bufsize < self.global.maxrewrite + 2048 {
                self.fatal(b"'tune.maxrewrite' leaves less than 2048 bytes of 'tune.bufsize' for a request");
            }
            self.proxies.retain(|proxy| !proxy.is_defaults);
            for (at, proxy) in self.proxies.iter_mut().enumerate() {
                proxy.id = at as u32 + 1;
                proxy.finish(&self.global.targets, &self.userlists, &mut self.report);
            }
            let standard = [500, 503, 200, 400, 408, 413, 422, 505].map(Reply::standard).into();
            (Config { global: self.global, proxies: self.proxies, standard }, self.report)
        }

        // ---- rules -----------------------------------------------------------

        /// Compiles the condition that ends a line, if there is one.
        fn condition(&mut self, line: &mut Line) -> Option<Option<Condition>> {
            if !line.at_condition() {
                return Some(None);
            }
            let mut acls = std::mem::take(&mut self.proxy().acls);
            let condition = Condition::compile(&mut acls, &self.userlists, line);
            self.proxy().acls = acls;
            condition.map(Some)
        }

        /// Adds an http-request rule with the condition that follows.
        fn rule(&mut self, line: &mut Line, action: Action) -> Option<()> {
            let condition = self.condition(line)?;
            let proxy = self.proxy();
            proxy.rules.push(Rule { action, condition });
            if proxy.rules.len().max(proxy.acls.len()) > MAX_EACH {
                return line.wrong(b"", b"more than 1024 rules or ACLs");
            }
            Some(())
        }

        fn file(&mut self, line: &mut Line) -> Option<Text> {
            match sys::read_file(line.need("a file")?) {
                Ok(text) => Some(text),
                Err(why) => line.wrong(b"", why),
            }
        }

        /// Prepares a reply, which has to fit into a buffer.
        fn fits(&self, reply: &mut Reply, line: &mut Line) -> Option<()> {
            if reply.prepare() + HEAD_ROOM <= self.global.bufsize {
                return Some(());
            }
            line.wrong(b"", b"the answer is too large for 'tune.bufsize'")
        }

        fn complete(&self, mut reply: Reply, line: &mut Line) -> Option<Answer> {
            self.fits(&mut reply, line)?;
            Some(Answer::own(reply))
        }

        /// Adds a header field, whose value is a format of one line.
        fn field(&self, fields: &mut Format, name: &[u8], value: &[Text], line: &mut Line) -> Option<()> {
            fields.text(text!("{}: ", name.to_ascii_lowercase()));
            for part in value {
                if part.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
                    return line.wrong(b"", b"a header field cannot hold a line end");
                }
                fields.compile(part, false, &self.userlists, line)?;
            }
            fields.text(b"\r\n");
            Some(())
        }

        /// Adds the text of a body, or the format that it is.
        fn payload(&self, body: &mut Format, text: Text, is_format: bool, line: &mut Line) -> Option<()> {
            if is_format {
                return body.compile(text, false, &self.userlists, line);
            }
            body.text(text);
            Some(())
        }

        /// Reads `[status N] [content-type T] [string S | ...] [hdr N F]*`. The
        /// text of an error's own is that of `deny` without more than a
        /// status; other answers without a payload are empty.
        fn answer(&mut self, line: &mut Line, status: u16) -> Option<Answer> {
            const WORDS: &str =
                "string lf-string file lf-file status deny_status content-type errorfile default-errorfiles hdr";
            let (mut has_body, mut is_default, mut is_bare) = (false, false, status >= 400);
            let (mut status, mut content_type, mut whole) = (status, None, None);
            let [mut body, mut fields] = [Format::default(), Format::default()];
            while let Some(word) = line.argument() {
                let Some(at) = place(word, WORDS) else { return line.wrong(word, b"is unexpected here") };
                has_body |= at < 4;
                is_default |= at == 8;
                is_bare &= at == 5;
                match at {
                    0 | 1 => {
                        let text = line.need("a text")?;
                        self.payload(&mut body, text, at == 1, line)?;
                    }
                    2 | 3 => {
                        let text = self.file(line)?;
                        self.payload(&mut body, text, at == 3, line)?;
                    }
                    4 | 5 => status = line.number(200, 599)? as u16,
                    6 => content_type = Some(line.need("a type")?),
                    7 => whole = Some(Reply::from_file(self.file(line)?, 0, line)?),
                    8 => {}
                    _ => {
                        let name = line.need("a header name")?;
                        if name.is_empty() || !name.iter().all(|&byte| http::is_token(byte)) {
                            return line.wrong(name, b"is no header name");
                        }
                        let value = line.need("a header value")?;
                        self.field(&mut fields, name, &[value], line)?;
                    }
                }
            }
            if content_type.is_some() && !has_body {
                return line.wrong(b"", b"'content-type' needs a payload");
            }
            if has_body && (is_default || matches!(status, 204 | 304)) {
                return line.wrong(b"", b"a 204, a 304 and 'default-errorfiles' take no payload");
            }
            if is_default || is_bare {
                return Some(Answer::standard(status));
            }
            let mut reply = whole.unwrap_or_else(|| Reply::new(status));
            if has_body {
                reply.body = body;
            }
            if let Some(content_type) = content_type {
                self.field(&mut reply.after, b"content-type", &[content_type], line)?;
            }
            reply.before.append(fields);
            self.complete(reply, line)
        }

        /// Reads `location|prefix|scheme U [code N] [set-cookie C] [clear-cookie C] [drop-query]`.
        fn redirection(&mut self, line: &mut Line) -> Option<Answer> {
            const CODES: &str = "301 302 303 307 308";
            const WORDS: &str = "location prefix scheme code set-cookie clear-cookie drop-query";
            let (mut code, mut cookie, mut kind) = (1, None, 0);
            let (mut path, mut target): (Text, _) = (b"%[pathq]", None);
            while let Some(word) = line.argument() {
                match place(word, WORDS) {
                    Some(at @ 0..3) => (kind, target) = (at, Some(line.need("a URL")?)),
                    Some(3) => code = line.one_of("code", CODES)?,
                    Some(4) => cookie = Some(text!("set-cookie: {}; path=/;\r\n", line.need("a cookie")?)),
                    Some(5) => cookie = Some(text!("set-cookie: {}; path=/; Max-Age=0;\r\n", line.need("a cookie")?)),
                    Some(_) => path = b"%[path]",
                    None => return line.wrong(word, b"is unexpected in a redirect"),
                }
            }
            let location: &[Text] = match (kind, target) {
                (_, None) => return line.wrong(b"", b"'location', 'prefix' or 'scheme' is missing"),
                (0, Some(value)) => &[value],
                (1, Some(b"/")) => &[path],
                (1, Some(value)) => &[value, path],
                (_, Some(value)) => &[value, b"://%[hdr(host)]", path],
            };
            let status = [301, 302, 303, 307, 308][code];
            let mut reply = Reply::new(status);
            self.field(&mut reply.after, b"location", location, line)?;
            if matches!(status, 302 | 303 | 307) {
                reply.after.text(b"cache-control: no-cache\r\n");
            }
            reply.after.text(cookie.unwrap_or(b""));
            self.complete(reply, line)
        }
    }

    fn challenge(realm: Text) -> Action {
        Action::Return(Answer::own(Reply::challenge(realm)))
    }

    /// `stats http-request allow|deny|auth [realm R] [if|unless ...]`
    fn stats_rule(parser: &mut Parser, line: &mut Line) -> Option<()> {
        let action = match line.one_of("action", "allow deny auth")? {
            0 => Action::Allow,
            1 => Action::Deny(Answer::standard(403)),
            _ if line.take(b"realm") => challenge(line.text("a realm")?),
            _ => challenge(parser.stats().realm),
        };
        let condition = parser.condition(line)?;
        parser.stats().rules.push(Rule { action, condition });
        Some(())
    }

    /// `user` of `global` names an account, that of a `userlist` a person.
    fn user(parser: &mut Parser, line: &mut Line) -> Option<()> {
        let name = line.need("a name")?;
        if parser.is_global() {
            parser.ignored(b"user");
            return Some(());
        }
        if !line.take(b"insecure-password") {
            return line.wrong(b"", b"only 'insecure-password' is supported : hashed passwords need crypt(3)");
        }
        let password = line.need("a password")?;
        line.rest(); // groups
        parser.userlists.last_mut()?.1.push((name, password));
        Some(())
    }

    fn acl(parser: &mut Parser, line: &mut Line) -> Option<()> {
        let name = line.need("a name")?;
        let test = rules::Test::compile(line.rest(), &parser.userlists, line)?;
        parser.proxy().acls.push(Acl { name, test });
        Some(())
    }

    /// `log global`, or `log stdout|stderr format raw facility [level]`.
    fn log(parser: &mut Parser, line: &mut Line) -> Option<()> {
        const FACILITIES: &str = "kern user mail daemon auth syslog lpr news uucp cron auth2 ftp ntp audit alert cron2 \
                                  local0 local1 local2 local3 local4 local5 local6 local7";
        const LEVELS: &str = "emerg alert crit err warning notice info debug";
        /// The level of requests.
        const INFO: usize = 6;
        if !parser.is_global() && line.take(b"global") {
            parser.proxy().flags |= LOG_GLOBAL;
            return Some(());
        }
        let descriptor = line.one_of("log target", "stdout stderr")? as i32 + 1;
        if line.take(b"format") {
            line.one_of("log format", "raw")?;
        }
        line.one_of("log facility", FACILITIES)?;
        let level = if line.peek().is_some() { line.one_of("log level", LEVELS)? } else { INFO };
        let targets = if parser.is_global() { &mut parser.global.targets } else { &mut parser.proxy().targets };
        targets.extend((level >= INFO).then_some(descriptor));
        Some(())
    }

    fn bind(parser: &mut Parser, line: &mut Line) -> Option<()> {
        for address in split(line.need("an address and a port")?, b',') {
            bind_address(address, &mut parser.proxy().binds, line)?;
        }
        while let Some(option) = line.next() {
            match place(option, "ssl crt crt-list tfo defer-accept v4v6 name id backlog nice process thread shards") {
                Some(0..3) => return line.wrong(option, b"of 'bind' is not supported : there is no TLS"),
                Some(3..6) => {}
                Some(_) => drop(line.need("a value")?),
                None => return line.wrong(option, b"is no option of 'bind' that is supported"),
            }
        }
        if parser.proxy().binds.len() > MAX_EACH {
            return line.wrong(b"", b"there are more than 1024 addresses");
        }
        Some(())
    }

    /// One address: `*:80`, `:80`, `1.2.3.4:80-82`, `[::1]:80`, `:::80`,
    /// `ipv4@`, `ipv6@`.
    fn bind_address(text: Text, binds: &mut Vec<Bind>, line: &mut Line) -> Option<()> {
        let v6 = text.starts_with(b"ipv6@");
        let rest = text.strip_prefix(b"ipv6@").or(text.strip_prefix(b"ipv4@")).unwrap_or(text);
        let Some(colon) =
            rest.iter().rposition(|&byte| byte == b':').filter(|&at| at + 1 < rest.len() && !rest.ends_with(b"]"))
        else {
            return line.wrong(text, b"has no port");
        };
        let (host, ports) = rest.split_at(colon);
        let bare = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
        let ip = match bare {
            b"" | b"*" if v6 => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            b"" | b"*" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            b"localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            _ => rules::parse_ip(bare),
        };
        let Some(ip) = ip else { return line.wrong(host, b"is no address") };
        let (low, high) = split_at_byte(&ports[1..], b'-');
        let high = if ports.contains(&b'-') { high } else { low };
        let [Some(first), Some(last)] = [low, high].map(|text| decimal(text, 1, 65_535)) else {
            return line.wrong(&ports[1..], b"is no port, or range of ports, from 1 to 65535");
        };
        if last < first || last - first >= MAX_EACH as u64 {
            return line.wrong(ports, b"is no range of at most 1024 ports");
        }
        for port in first..=last {
            let shown = text!("{}:{}", host, number(port));
            binds.push(Bind { address: SocketAddr::new(ip, port as u16), shown });
        }
        Some(())
    }

    /// Edits that make one word another (Levenshtein).
    fn distance(one: &[u8], other: &[u8]) -> usize {
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (i, a) in one.iter().enumerate() {
            let mut diagonal = std::mem::replace(&mut row[0], i + 1);
            for (j, b) in other.iter().enumerate() {
                let changed = diagonal + usize::from(a != b);
                diagonal = row[j + 1];
                row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row[other.len()]
    }
}

/// Conditions, fetches, format strings and replies: compiled once at start,
/// evaluated on every request without allocating. Calls words to read them,
/// http, and, to read a file of patterns, sys.
mod rules {
    use crate::http::{self, Request};
    use crate::out::{Out, Text, decimal, find, number, place, split, split_at_byte};
    use crate::sys;
    use crate::words::Line;
    use std::net::{IpAddr, SocketAddr};

    /// Longest `user:password` of a request, decoded, in bytes.
    const MAX_CREDENTIALS: usize = 192;

    /// Wall-clock time, read once per turn of the loop.
    #[derive(Clone, Copy, Default)]
    pub struct Wall {
        pub seconds: u64,
        pub millis: u64,
    }

    /// Where a request comes from, where it went to, and when.
    pub struct Origin {
        pub peer: SocketAddr,
        pub local: SocketAddr,
        pub started: Wall,
    }

    /// What became of a request: for logs and for format strings.
    #[derive(Clone, Copy, Default)]
    pub struct Outcome {
        /// -1 where nothing was answered.
        pub status: i64,
        pub bytes_in: i64,
        pub bytes_out: i64,
        /// Termination state, such as `LR--`.
        pub flags: &'static str,
        /// What stands for the server: `<NOSRV>`, `<STATS>`, `<PROMEX>`.
        pub server: &'static str,
        /// Milliseconds to get the request (-1 where it had no answer of ours),
        /// to wait for a server (-1 for none), and in all.
        pub request_ms: i64,
        pub server_ms: i64,
        pub total_ms: i64,
    }

    /// All that a fetch or a format string may look at.
    pub struct Scene<'a> {
        /// None for what could not be parsed.
        pub request: Option<&'a Request<'a, 'a>>,
        pub origin: &'a Origin,
        pub outcome: Outcome,
        pub frontend: Text,
        pub hostname: Text,
        /// Connections of the process and of this frontend, and requests that
        /// this process has seen.
        pub counts: [u64; 3],
    }

    /// A `userlist` section with its clear-text passwords.
    pub type Users = Vec<(Text, Text)>;
    pub type Userlists = Vec<(Text, Users)>;

    // ---- fetches -----------------------------------------------------------

    pub enum Sample<'a> {
        Bool(bool),
        Int(i64),
        Ip(IpAddr),
        Text(&'a [u8]),
        /// With milliseconds, or with the time zone.
        Date(Wall, bool),
    }
    use Sample::{Bool, Date, Int, Ip};

    /// Shows each sample to a visitor until it says true; tells whether it did.
    type See<'s, 'a> = &'s mut dyn FnMut(Sample<'a>) -> bool;
    type Samples = for<'s, 'a> fn(&Scene<'a>, &Argument, See<'s, 'a>) -> bool;

    /// What stands between the braces of a fetch.
    #[derive(Clone, Copy)]
    pub struct Argument {
        text: Text,
        users: &'static [(Text, Text)],
    }

    /// What a fetch yields, by which its patterns are read.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub enum Yields {
        Bool,
        Int,
        Ip,
        Text,
        /// Text that takes the suffixes `_beg`, `_end`, `_sub`, `_dir`.
        Suffixed,
        /// The same, of an argument.
        Named,
        /// The same, and a format shows the last of several, not the first.
        Listed,
        /// A userlist, which is the argument.
        Userlist,
        /// Only an alias of a format string.
        Alias,
    }
    use Yields::{Alias, Listed, Named, Suffixed, Userlist};

    /// Names of a fetch, and behind `%` its aliases in a format string; what
    /// it yields; and the fetch itself.
    #[rustfmt::skip]
    pub const FETCHES: &[(&str, Yields, Samples)] = &[
        ("always_false ssl_fc", Yields::Bool, |_, _, see| see(Bool(false))),
        ("always_true", Yields::Bool, |_, _, see| see(Bool(true))),
        ("dst %fi", Yields::Ip, |s, _, see| see(Ip(s.origin.local.ip()))),
        ("dst_port %fp", Yields::Int, |s, _, see| see(Int(s.origin.local.port().into()))),
        ("fe_name %b %f %ft", Yields::Text, |s, _, see| see(Sample::Text(s.frontend))),
        ("hdr req.hdr", Listed, |s, name, see| {
            s.request.is_some_and(|r| r.fields(name.text).flat_map(http::list).any(|value| see(Sample::Text(value))))
        }),
        ("http_auth", Userlist, |s, list, see| see(Bool(s.request.is_some_and(|r| authenticated(r, list.users))))),
        ("method %HM", Yields::Text, |s, _, see| part(s, see, |r| r.method)),
        ("path %HPO", Suffixed, |s, _, see| part(s, see, Request::path)),
        ("pathq", Yields::Text, |s, _, see| part(s, see, Request::local)),
        ("query", Yields::Text, |s, _, see| s.request.is_some_and(|r| r.local().contains(&b'?')) && part(s, see, Request::query)),
        ("req.ver req_ver", Yields::Text, |s, _, see| part(s, see, |r| &r.version[5..])),
        ("src %ci", Yields::Ip, |s, _, see| see(Ip(s.origin.peer.ip()))),
        ("src_port %cp", Yields::Int, |s, _, see| see(Int(s.origin.peer.port().into()))),
        ("url %HU", Suffixed, |s, _, see| part(s, see, |r| r.target)),
        ("url_param urlp", Named, |s, name, see| {
            s.request.is_some_and(|r| split(r.query(), b'&').any(|pair| {
                let (key, value) = split_at_byte(pair, b'=');
                key == name.text && see(Sample::Text(value))
            }))
        }),
        ("%B", Alias, |s, _, see| see(Int(s.outcome.bytes_out))),
        ("%CC %CS", Alias, |_, _, see| see(Sample::Text(b"-"))),
        ("%H", Alias, |s, _, see| see(Sample::Text(s.hostname))),
        ("%HP", Alias, |s, _, see| part(s, see, |r| split_at_byte(r.target, b'?').0)),
        ("%HQ", Alias, |s, _, see| part(s, see, |r| &r.local()[r.path().len()..])),
        ("%HV", Alias, |s, _, see| part(s, see, |r| r.version)),
        ("%ST", Alias, |s, _, see| see(Int(s.outcome.status))),
        ("%T %Tl %trg %trl", Alias, |s, _, see| see(Date(s.origin.started, false))),
        ("%TR %Tq", Alias, |s, _, see| see(Int(s.outcome.request_ms))),
        ("%Ta %Tt", Alias, |s, _, see| see(Int(s.outcome.total_ms))),
        ("%Tc %Tr %Tw", Alias, |s, _, see| see(Int(s.outcome.server_ms))),
        ("%Th %Ti %bc %bq %rc %sc %sq", Alias, |_, _, see| see(Int(0))),
        ("%Ts", Alias, |s, _, see| see(Int(s.origin.started.seconds as i64))),
        ("%U", Alias, |s, _, see| see(Int(s.outcome.bytes_in))),
        ("%ac", Alias, |s, _, see| see(Int(s.counts[0] as i64))),
        ("%fc", Alias, |s, _, see| see(Int(s.counts[1] as i64))),
        ("%hr %hs", Alias, |_, _, see| see(Sample::Text(b""))),
        ("%pid", Alias, |_, _, see| see(Int(sys::pid() as i64))),
        ("%r", Alias, |s, _, see| part(s, see, |r| r.line)),
        ("%rt", Alias, |s, _, see| see(Int(s.counts[2].saturating_sub(1) as i64))),
        ("%s", Alias, |s, _, see| see(Sample::Text(s.outcome.server.as_bytes()))),
        ("%t %tr", Alias, |s, _, see| see(Date(s.origin.started, true))),
        ("%ts", Alias, |s, _, see| see(Sample::Text(&s.outcome.flags.as_bytes()[..2]))),
        ("%tsc", Alias, |s, _, see| see(Sample::Text(s.outcome.flags.as_bytes()))),
    ];

    /// ACLs that are there without being declared.
    pub const PREDEFINED: Text = b"FALSE always_false,TRUE always_true,HTTP_1.0 req_ver 1.0,HTTP_1.1 req_ver 1.1,\
        LOCALHOST src 127.0.0.1/8 ::1,METH_CONNECT method CONNECT,METH_DELETE method DELETE,METH_GET method GET HEAD,\
        METH_HEAD method HEAD,METH_OPTIONS method OPTIONS,METH_POST method POST,METH_PUT method PUT,\
        METH_TRACE method TRACE";

    fn part<'s, 'a>(scene: &Scene<'a>, see: See<'s, 'a>, of: fn(&'a Request<'a, 'a>) -> &'a [u8]) -> bool {
        scene.request.is_some_and(|request| see(Sample::Text(of(request))))
    }

    /// A fetch and its argument.
    #[derive(Clone, Copy)]
    struct Fetch {
        samples: Samples,
        argument: Argument,
        yields: Yields,
    }

    impl Fetch {
        /// Compiles `name`, `name(argument)` or, in a condition,
        /// `name_suffix(argument)`; gives how it is matched too.
        fn compile(word: Text, alias: bool, lists: &Userlists, line: &mut Line) -> Option<(Self, How)> {
            let (name, rest) = split_at_byte(word, b'(');
            let text = rest.strip_suffix(b")").unwrap_or(b"");
            if name.len() < word.len() && text.is_empty() || word.contains(&b',') {
                return line.wrong(word, b"is not supported : a fetch with one argument in '()', and no converters");
            }
            let find = |name: &[u8]| FETCHES.iter().find(|fetch| place(name, fetch.0).is_some());
            let mut how = How::Exact;
            let mut found = find(name);
            if found.is_none()
                && let Some(cut) = name.iter().rposition(|&byte| byte == b'_')
                && let Some(named) = How::named(&name[cut + 1..])
            {
                how = named;
                found = find(&name[..cut]).filter(|fetch| matches!(fetch.1, Suffixed | Named | Listed));
            }
            let Some(&(_, yields, samples)) = found.filter(|_| name.starts_with(b"%") == alias) else {
                return line.wrong(
                    name,
                    if alias { b"is not supported in a format string" } else { b"is an unknown fetch or match" },
                );
            };
            if matches!(yields, Named | Listed | Userlist) == text.is_empty() {
                return line.wrong(word, b"has an argument too many, or lacks one in '()'");
            }
            let list = lists.iter().find(|list| list.0 == text);
            if yields == Userlist && list.is_none() {
                return line.wrong(text, b"is no userlist that stands before this line");
            }
            let users = list.map_or(&[][..], |list| list.1.clone().leak());
            Some((Self { samples, argument: Argument { text, users }, yields }, how))
        }

        /// Writes the sample. An alias shows what a client sent escaped.
        /// Between quotes, a number and a date stand without.
        fn write(&self, alias: bool, quote: &str, scene: &Scene, out: &mut Out) {
            let (mark, full) = (out.len(), out.full);
            let mut none = alias;
            (self.samples)(scene, &self.argument, &mut |sample| {
                none = false;
                out.truncate(mark);
                out.full = full;
                let quote = if matches!(sample, Sample::Text(_) | Ip(_)) { quote } else { "" };
                out.put(quote);
                match sample {
                    Bool(value) => drop(out.num(value.into())),
                    Int(value) => drop(out.num(value)),
                    Ip(ip) => address(ip.to_canonical(), out),
                    Date(wall, millis) => date(wall, millis, out),
                    Sample::Text(text) if alias => escape(text, out),
                    Sample::Text(text) => drop(out.put(text)),
                }
                out.put(quote);
                self.yields != Listed
            });
            if none {
                out.put(quote).put("<BADREQ>").put(quote);
            }
        }
    }

    /// Whether the request carries the name and password of one of `users`
    /// (RFC 7617). Every password is compared in full: time tells nothing.
    pub fn authenticated(request: &Request, users: &[(Text, Text)]) -> bool {
        let mut buffer = [0; MAX_CREDENTIALS];
        let (scheme, code) = split_at_byte(request.fields(b"authorization").next().unwrap_or(b""), b' ');
        let Some(credentials) = base64(code.trim_ascii(), &mut buffer) else { return false };
        let (user, password) = split_at_byte(credentials, b':');
        let same = |one: &(Text, Text)| same_secret(one.0, user) & same_secret(one.1, password);
        scheme.eq_ignore_ascii_case(b"basic") && users.iter().fold(false, |found, one| found | same(one))
    }

    /// Compares in a time that depends on the length of `given` alone.
    fn same_secret(wanted: &[u8], given: &[u8]) -> bool {
        let bytes = given.iter().enumerate().map(|(at, &byte)| byte ^ wanted.get(at).copied().unwrap_or(0));
        let differ = bytes.fold(wanted.len() ^ given.len(), |differ, byte| differ | usize::from(byte));
        std::hint::black_box(differ) == 0
    }

    /// Decodes base64 (RFC 4648 §4) into a buffer; None when it is not, or too long.
    fn base64<'a>(code: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let code = code.strip_suffix(b"==").or(code.strip_suffix(b"=")).unwrap_or(code);
        let (mut bits, mut count, mut len) = (0u32, 0, 0);
        for &byte in code {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
            count += 6;
            if count >= 8 {
                count -= 8;
                *buffer.get_mut(len)? = (bits >> count) as u8;
                len += 1;
            }
        }
        Some(&buffer[..len])
    }

    /// An IP address as text (RFC 5952), without the formatting code of std.
    fn address(ip: IpAddr, out: &mut Out) {
        match ip {
            IpAddr::V4(v4) => {
                for (at, octet) in v4.octets().into_iter().enumerate() {
                    out.put(if at == 0 { "" } else { "." }).num(octet.into());
                }
            }
            IpAddr::V6(v6) => {
                let words = v6.segments();
                // the longest run of zeros, the first of equals, becomes "::" (§4.2)
                let run = |at: usize| words[at..].iter().take_while(|&&word| word == 0).count();
                let (length, from_end) = (0..8).map(|at| (run(at), 8 - at)).max().unwrap_or((0, 0));
                let zeros = if length > 1 { 8 - from_end..8 - from_end + length } else { 9..9 };
                for (at, word) in words.into_iter().enumerate() {
                    if zeros.contains(&at) {
                        out.put(if at == zeros.start { "::" } else { "" });
                    } else {
                        out.put(if at == 0 || at == zeros.end { "" } else { ":" }).hex(word.into());
                    }
                }
            }
        }
    }

    /// Text of a client in a log: a quote, a `#`, a control character or a byte
    /// beyond ASCII is written as `#` and two hexadecimal digits.
    fn escape(text: &[u8], out: &mut Out) {
        for &byte in text {
            if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#') || byte == b' ' {
                out.put([byte]);
            } else {
                let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value)];
                out.put([b'#', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }

    /// `23/Nov/2026:11:34:17.942`, or with ` +0000` in place of the
    /// milliseconds; always in UTC.
    fn date(wall: Wall, millis: bool, out: &mut Out) {
        let (days, second) = (wall.seconds / 86_400, wall.seconds % 86_400);
        // eras of 400 years that begin on the 1st of March, so that the leap
        // day is a year's last
        let (era, day) = ((days + 719_468) / 146_097, (days + 719_468) % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        out.padded(day - (153 * month + 2) / 5 + 1, 2);
        let months = b"/Mar/Apr/May/Jun/Jul/Aug/Sep/Oct/Nov/Dec/Jan/Feb/";
        out.put(&months[month as usize * 4..month as usize * 4 + 5]);
        out.num((era * 400 + year + u64::from(month >= 10)) as i64);
        for part in [second / 3600, second / 60 % 60, second % 60] {
            out.put(":").padded(part, 2);
        }
        out.put(if millis { "." } else { " +0000" });
        if millis {
            out.padded(wall.millis, 3);
        }
    }

    // ---- matches and conditions --------------------------------------------

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum How {
        Exact,
        Begins,
        Ends,
        Contains,
        /// A whole part between slashes or question marks.
        Directory,
        Found,
    }

    impl How {
        fn named(name: &[u8]) -> Option<Self> {
            const ALL: [How; 6] = [How::Exact, How::Begins, How::Ends, How::Contains, How::Directory, How::Found];
            place(name, "str beg end sub dir found").map(|at| ALL[at])
        }
    }

    #[derive(Clone, Copy)]
    enum Pattern {
        Text(Text),
        Net(IpAddr, u8),
    }

    /// One line of an ACL: a fetch and what to compare it with.
    pub struct Test {
        fetch: Fetch,
        how: How,
        fold_case: bool,
        patterns: Vec<Pattern>,
    }

    /// A line of a named ACL, or an anonymous one between braces, which has no
    /// name. Lines of one name are alternatives.
    pub struct Acl {
        pub name: Text,
        pub test: &'static Test,
    }

    /// `if` or `unless`, and what holds: alternatives of terms that hold
    /// together.
    pub struct Condition {
        unless: bool,
        /// Each term: the first of an alternative, negated, and which ACL.
        terms: Vec<(bool, bool, usize)>,
    }

    impl Test {
        /// Compiles `fetch [-i] [-m how] [-f file] [--] pattern...`.
        pub fn compile(words: &[Text], lists: &Userlists, line: &mut Line) -> Option<&'static Self> {
            let Some((&first, rest)) = words.split_first() else { return line.wrong(b"", b"a fetch is missing") };
            let (fetch, how) = Fetch::compile(first, false, lists, line)?;
            let mut test = Self { fetch, how, fold_case: false, patterns: Vec::new() };
            let mut rest = rest.iter();
            let mut flags = true;
            while let Some(&word) = rest.next() {
                match word {
                    b"-i" if flags => test.fold_case = true,
                    b"--" if flags => flags = false,
                    b"-m" if flags => {
                        let name = rest.next().copied().unwrap_or(word);
                        match How::named(name) {
                            Some(how) => test.how = how,
                            None => return line.wrong(name, b"is no match : str, beg, end, sub, dir or found"),
                        }
                    }
                    b"-f" if flags => match sys::read_file(rest.next().unwrap_or(&&b""[..])) {
                        Ok(text) => {
                            let lines = split(text, b'\n').map(<[u8]>::trim_ascii);
                            for pattern in lines.filter(|text| !text.is_empty() && text[0] != b'#') {
                                test.add(pattern, line)?;
                            }
                        }
                        Err(why) => return line.wrong(b"", why),
                    },
                    [b'-', ..] if flags => return line.wrong(word, b"is no flag of an ACL that is supported"),
                    _ => {
                        flags = false;
                        test.add(word, line)?;
                    }
                }
            }
            let alone = test.how == How::Found || matches!(fetch.yields, Yields::Bool | Userlist);
            if test.patterns.is_empty() && !alone {
                return line.wrong(first, b"has no pattern to match");
            }
            Some(Box::leak(Box::new(test)))
        }

        fn add(&mut self, text: Text, line: &mut Line) -> Option<()> {
            let pattern = match self.fetch.yields {
                _ if self.how == How::Found => None,
                Yields::Bool | Userlist | Alias => None,
                Yields::Int => text.iter().all(u8::is_ascii_digit).then_some(Pattern::Text(text)),
                Yields::Ip => network(text),
                _ if self.how == How::Directory => {
                    let mut text = text;
                    while let [b'/' | b'?', rest @ ..] | [rest @ .., b'/' | b'?'] = text {
                        text = rest;
                    }
                    Some(Pattern::Text(text))
                }
                _ => Some(Pattern::Text(text)),
            };
            match pattern {
                Some(pattern) => self.patterns.push(pattern),
                None => return line.wrong(text, b"is no pattern for this match"),
            }
            Some(())
        }

        fn holds(&self, scene: &Scene) -> bool {
            (self.fetch.samples)(scene, &self.fetch.argument, &mut |sample| match sample {
                _ if self.how == How::Found => true,
                Bool(value) => value,
                Ip(ip) => self.patterns.iter().any(|pattern| in_network(pattern, ip.to_canonical())),
                Int(value) => self.matches(itoa::Buffer::new().format(value).as_bytes()),
                Sample::Text(text) => self.matches(text),
                Date(..) => false,
            })
        }

        fn matches(&self, text: &[u8]) -> bool {
            let same = |part: &[u8], pattern: &[u8]| match self.fold_case {
                true => part.eq_ignore_ascii_case(pattern),
                false => part == pattern,
            };
            self.patterns.iter().any(|pattern| {
                let Pattern::Text(pattern) = *pattern else { return false };
                let Some(spare) = text.len().checked_sub(pattern.len()) else { return false };
                match self.how {
                    How::Exact | How::Found => same(text, pattern),
                    How::Begins => same(&text[..pattern.len()], pattern),
                    How::Ends => same(&text[spare..], pattern),
                    How::Contains => (0..=spare).any(|at| same(&text[at..at + pattern.len()], pattern)),
                    How::Directory if pattern.is_empty() => false,
                    How::Directory => (0..=spare).any(|at| {
                        let ends = |byte: Option<&u8>| matches!(byte, None | Some(b'/' | b'?'));
                        let behind = at + pattern.len();
                        same(&text[at..behind], pattern) && ends(text[..at].last()) && ends(text.get(behind))
                    }),
                }
            })
        }
    }

    /// `address`, `address/bits`, or `address/mask` for IPv4.
    fn network(text: &[u8]) -> Option<Pattern> {
        let (address, bits) = split_at_byte(text, b'/');
        let ip = parse_ip(address)?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match (bits, parse_ip(bits)) {
            (b"", _) => most,
            (_, Some(IpAddr::V4(mask))) => u32::from(mask).leading_ones().into(),
            (digits, _) => decimal(digits, 0, most)?,
        };
        Some(Pattern::Net(ip, bits as u8))
    }

    fn in_network(pattern: &Pattern, ip: IpAddr) -> bool {
        let (differ, width, bits) = match (*pattern, ip) {
            (Pattern::Net(IpAddr::V4(net), bits), IpAddr::V4(ip)) => {
                (u128::from(u32::from(net) ^ u32::from(ip)), 32, bits)
            }
            (Pattern::Net(IpAddr::V6(net), bits), IpAddr::V6(ip)) => (u128::from(net) ^ u128::from(ip), 128, bits),
            _ => return false,
        };
        differ.checked_shr(width - u32::from(bits)).is_none_or(|differ| differ == 0)
    }

    /// An address of IPv4, or of IPv6 (RFC 4291 §2.2), without the generic
    /// parser of std, which is three times as large.
    pub fn parse_ip(text: &[u8]) -> Option<IpAddr> {
        if !text.contains(&b':') {
            return parse_v4(text).map(IpAddr::from);
        }
        let mut words = [0; 8];
        let Some(gap) = find(text, b"::") else {
            return (parse_words(text, true, &mut words)? == 8).then_some(IpAddr::from(words));
        };
        // "::" stands for the words that are missing
        let before = parse_words(&text[..gap], false, &mut words)?;
        let mut tail = [0; 8];
        let behind = parse_words(&text[gap + 2..], true, &mut tail)?;
        if before + behind > 7 {
            return None;
        }
        words[8 - behind..].copy_from_slice(&tail[..behind]);
        Some(IpAddr::from(words))
    }

    fn parse_v4(text: &[u8]) -> Option<[u8; 4]> {
        let mut octets = [0; 4];
        let mut parts = split(text, b'.');
        for octet in &mut octets {
            *octet = decimal(parts.next()?, 0, 255)? as u8;
        }
        parts.next().is_none().then_some(octets)
    }

    /// Reads hexadecimal words between colons, at the end of an address the
    /// last two perhaps as one of IPv4; how many.
    fn parse_words(text: &[u8], ends: bool, words: &mut [u16; 8]) -> Option<usize> {
        let mut count = 0;
        let mut rest = split(text, b':').filter(|_| !text.is_empty());
        while let Some(part) = rest.next() {
            let mut word = 0;
            if let (Some([a, b, c, d]), true) = (parse_v4(part), ends) {
                *words.get_mut(count)? = u16::from_be_bytes([a, b]);
                word = u16::from_be_bytes([c, d]);
                count += 1;
                if rest.next().is_some() {
                    return None;
                }
            } else if part.is_empty() || part.len() > 4 {
                return None;
            } else {
                for &byte in part {
                    word = word * 16 + char::from(byte).to_digit(16)? as u16;
                }
            }
            *words.get_mut(count)? = word;
            count += 1;
        }
        Some(count)
    }

    impl Condition {
        /// Compiles `if|unless term...`; anonymous ACLs are added to `acls`.
        pub fn compile(acls: &mut Vec<Acl>, lists: &Userlists, line: &mut Line) -> Option<Self> {
            let first = line.next()?;
            let mut condition = Self { unless: first == b"unless", terms: Vec::new() };
            let (mut begins, mut negated) = (true, false);
            while let Some(word) = line.next() {
                let bangs = word.iter().take_while(|&&byte| byte == b'!').count();
                negated ^= bangs % 2 == 1;
                let name = &word[bangs..];
                if name.is_empty() {
                    continue;
                }
                if matches!(name, b"or" | b"||") && !begins && !negated {
                    begins = true;
                    continue;
                }
                let known = acls.iter().position(|acl| acl.name == name);
                let acl = match (name, known) {
                    (b"{", _) => {
                        let Some(words) = line.until(b"}") else { return line.wrong(b"", b"'{' without its '}'") };
                        acls.push(Acl { name: b"", test: Test::compile(words, lists, line)? });
                        acls.len() - 1
                    }
                    (_, Some(at)) => at,
                    _ => {
                        let Some(words) = predefined(name) else { return line.wrong(name, b"is no such ACL") };
                        acls.push(Acl { name, test: Test::compile(&words, lists, line)? });
                        acls.len() - 1
                    }
                };
                condition.terms.push((begins, negated, acl));
                (begins, negated) = (false, false);
            }
            if begins || negated {
                return line.wrong(first, b"is followed by no complete condition");
            }
            Some(condition)
        }

        pub fn holds(&self, acls: &[Acl], scene: &Scene) -> bool {
            let mut all = false;
            for &(begins, negated, acl) in &self.terms {
                if begins && all {
                    break;
                }
                let name = acls[acl].name;
                let mut same = acls[acl..].iter().take(if name.is_empty() { 1 } else { usize::MAX });
                let holds = (begins || all) && same.any(|acl| acl.name == name && acl.test.holds(scene));
                all = (begins || all) && holds != negated;
            }
            all != self.unless
        }
    }

    /// The fetch and the patterns of an ACL that is there without being declared.
    fn predefined(name: &[u8]) -> Option<Vec<Text>> {
        let acl = split(PREDEFINED, b',').find_map(|acl| acl.strip_prefix(text!("{} ", name)))?;
        Some(split(acl, b' ').collect())
    }

    // ---- format strings ----------------------------------------------------

    /// `option httplog`, in its own language.
    pub const HTTPLOG: Text =
        b"%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %{+Q}r";
    /// `option tcplog`.
    pub const TCPLOG: Text = b"%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq";
    /// What is logged without either option, once for each connection.
    pub const CONNECTION_LOG: Text = b"Connect from %ci:%cp to %fi:%fp (%f/HTTP)";

    enum Piece {
        Text(Text),
        /// Blanks of a log format: one, never two in a row.
        Blank,
        /// A fetch, as an alias, and between quotes.
        Fetch(Fetch, bool, bool),
    }

    /// A compiled format string.
    #[derive(Default)]
    pub struct Format(Vec<Piece>);

    impl Format {
        /// Adds a text as it is.
        pub fn text(&mut self, text: Text) {
            match self.0.last_mut() {
                Some(Piece::Text(before)) => *before = text!("{}{}", *before, text),
                _ => self.0.push(Piece::Text(text)),
            }
        }

        /// Adds what another format holds.
        pub fn append(&mut self, other: Self) {
            for piece in other.0 {
                match piece {
                    Piece::Text(text) => self.text(text),
                    piece => self.0.push(piece),
                }
            }
        }

        /// The text, where nothing in it depends on a request.
        fn fixed(&self) -> Option<Text> {
            match self.0[..] {
                [] => Some(b""),
                [Piece::Text(text)] => Some(text),
                _ => None,
            }
        }

        /// Adds a compiled format string; `log` merges blanks, as log-format does.
        pub fn compile(&mut self, text: Text, log: bool, lists: &Userlists, line: &mut Line) -> Option<()> {
            let mut quote_all = false;
            let mut rest = text;
            while let Some((&byte, after)) = rest.split_first() {
                let plain = rest.iter().take_while(|&&byte| byte != b'%' && (byte != b' ' || !log)).count();
                if plain > 0 {
                    self.text(&rest[..plain]);
                    rest = &rest[plain..];
                } else if byte == b' ' {
                    self.0.push(Piece::Blank);
                    rest = rest.trim_ascii_start();
                } else if let Some(behind) = after.strip_prefix(b"%") {
                    self.text(b"%");
                    rest = behind;
                } else {
                    rest = self.variable(rest, log, &mut quote_all, lists, line)?;
                }
            }
            Some(())
        }

        /// Compiles `%[fetch]` or `%alias`, `{flags}` behind the `%`; gives
        /// what follows it.
        fn variable(
            &mut self,
            text: Text,
            log: bool,
            quote_all: &mut bool,
            lists: &Userlists,
            line: &mut Line,
        ) -> Option<Text> {
            let mut quote = *quote_all;
            let mut rest = &text[1..];
            if let Some(flags) = rest.strip_prefix(b"{") {
                let (flags, after) = split_at_byte(flags, b'}');
                quote = flags == b"+Q";
                if !quote && flags != b"-Q" {
                    return line.wrong(flags, b"is no flag of a format string that is supported : +Q or -Q");
                }
                rest = after;
            }
            if let Some(expression) = rest.strip_prefix(b"[") {
                let Some(end) = expression.iter().position(|&byte| byte == b']') else {
                    return line.wrong(text, b"lacks its ']'");
                };
                let (fetch, how) = Fetch::compile(&expression[..end], false, lists, line)?;
                if how != How::Exact {
                    return line.wrong(&expression[..end], b"is an unknown fetch");
                }
                // outside of logs, HAProxy quotes aliases alone
                self.0.push(Piece::Fetch(fetch, false, quote && log));
                return Some(&expression[end + 1..]);
            }
            let (name, after) = rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count());
            if name == b"o" {
                *quote_all = quote;
            } else {
                let (fetch, _) = Fetch::compile(text!("%{}", name), true, lists, line)?;
                self.0.push(Piece::Fetch(fetch, true, quote));
            }
            Some(after)
        }

        pub fn write(&self, scene: &Scene, out: &mut Out) {
            let mut blank = true;
            for piece in &self.0 {
                let mark = out.len();
                match piece {
                    Piece::Text(text) => drop(out.put(text)),
                    Piece::Blank => drop(out.put(if blank { "" } else { " " })),
                    Piece::Fetch(fetch, alias, quote) => {
                        fetch.write(*alias, if *quote { "\"" } else { "" }, scene, out);
                    }
                }
                if out.len() > mark {
                    blank = matches!(piece, Piece::Blank);
                }
            }
        }
    }

    // ---- replies -----------------------------------------------------------

    /// What the answer says of the connection after it (RFC 9112 §9.3).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub enum Persistence {
        Keep,
        /// Kept for a client that has to be told so.
        KeepTold,
        Close,
    }

    impl Persistence {
        pub fn field(self) -> &'static str {
            match self {
                Self::Keep => "\r\n",
                Self::KeepTold => "connection: keep-alive\r\n\r\n",
                Self::Close => "connection: close\r\n\r\n",
            }
        }
    }

    /// Room for `content-length: `, as many digits as a buffer needs, and CRLF.
    const LENGTH_LINE: usize = 26;

    /// A configured or built-in answer.
    pub struct Reply {
        pub status: u16,
        /// The status line and fields before the length; those behind it.
        pub before: Format,
        pub after: Format,
        pub body: Format,
        /// Whether the length is among the fields by now.
        has_length: bool,
        /// Nothing is sent, and the connection is closed.
        pub silent: bool,
    }

    impl Reply {
        /// An answer with the phrase of its status.
        pub fn new(status: u16) -> Self {
            Self::with_line(status, http::reason(status).0)
        }

        fn with_line(status: u16, line: Text) -> Self {
            let [mut before, after, body] = [const { Format(Vec::new()) }; 3];
            before.text(text!("HTTP/1.1 {}\r\n", line));
            Self { status, before, after, body, has_length: false, silent: false }
        }

        /// The built-in answer for an error, or for a monitor's 200.
        pub fn standard(status: u16) -> Self {
            let mut reply = Self::new(status);
            let (title, sentence) = http::reason(status);
            reply.body.text(text!("<!doctype html><title>{}</title><h1>{}</h1><p>", title, title));
            reply.body.text(text!("{}</p>\n", sentence));
            reply.after.text(b"cache-control: no-cache\r\ncontent-type: text/html\r\n");
            reply.prepare();
            reply
        }

        /// A challenge (RFC 7617 §2).
        pub fn challenge(realm: Text) -> Self {
            let mut reply = Self::standard(401);
            reply.before.text(text!("www-authenticate: Basic realm=\"{}\"\r\n", realm));
            reply
        }

        /// Reads a whole answer as it stands in an `errorfile`. A status other
        /// than 0 takes the place of the file's. With an empty file, such as
        /// /dev/null, the connection is closed without an answer.
        pub fn from_file(text: Text, status: u16, line: &mut Line) -> Option<Self> {
            if text.is_empty() && status > 0 {
                return Some(Self { silent: true, ..Self::new(status) });
            }
            let mut slots = [http::EMPTY_HEADER; http::MAX_HEADERS];
            let (first, rest) = split_at_byte(text, b'\n');
            let own = decimal(first.get(9..12).unwrap_or(b""), 200, 599);
            let (Some(own), Ok(httparse::Status::Complete((length, fields))), b"HTTP/1.") =
                (own, httparse::parse_headers(rest, &mut slots), first.get(..7).unwrap_or(b""))
            else {
                return line.wrong(b"", b"the file holds no whole HTTP/1 answer");
            };
            let status = if status == 0 { own as u16 } else { status };
            let mut reply = Self::with_line(status, text!("{}{}", number(status.into()), first[12..].trim_ascii_end()));
            reply.body.text(&rest[length..]);
            for field in fields {
                let name = &*field.name.to_ascii_lowercase().into_bytes().leak();
                // how the answer is framed is this server's affair
                if place(name, "content-length transfer-encoding connection").is_none() {
                    reply.after.text(text!("{}: {}\r\n", name, field.value));
                }
            }
            Some(reply)
        }

        /// Puts together at start what does not depend on a request. Gives the
        /// bytes that are known.
        pub fn prepare(&mut self) -> usize {
            if let Some(body) = self.body.fixed()
                && !self.has_length
            {
                if self.may_have_body() {
                    self.before.text(text!("content-length: {}\r\n", number(body.len() as u64)));
                }
                self.before.append(std::mem::take(&mut self.after));
                self.has_length = true;
            }
            self.before.fixed().map_or(0, <[u8]>::len) + self.body.fixed().map_or(0, <[u8]>::len)
        }

        /// 204 and 304 have no body and no length (RFC 9110 §8.6).
        fn may_have_body(&self) -> bool {
            !matches!(self.status, 204 | 304)
        }

        /// Writes the answer where nothing in it depends on the request; else
        /// false, and nothing.
        pub fn write_fixed(&self, head_only: bool, persistence: Persistence, out: &mut Out) -> bool {
            let (Some(before), Some(body), true) = (self.before.fixed(), self.body.fixed(), self.has_length) else {
                return false;
            };
            out.put(before).put(persistence.field());
            out.put(if head_only || !self.may_have_body() { b"" } else { body });
            true
        }

        /// Writes the answer. It is whole unless `out` is full afterwards.
        pub fn write(&self, scene: &Scene, head_only: bool, persistence: Persistence, out: &mut Out) {
            if self.silent {
                return;
            }
            self.before.write(scene, out);
            let length_at = out.len();
            let gap = if self.has_length || !self.may_have_body() { 0 } else { LENGTH_LINE };
            out.gap(gap);
            self.after.write(scene, out);
            out.put(persistence.field());
            let body_at = out.len();
            self.body.write(scene, out);
            if out.full {
                return;
            }
            let length = out.len() - body_at;
            if head_only || !self.may_have_body() {
                out.truncate(body_at);
            }
            if gap > 0 {
                let mut line = [0; LENGTH_LINE];
                let mut field = Out::new(&mut line);
                field.put("content-length: ").num(length as i64).put("\r\n");
                out.fill_gap(length_at, gap, field.written());
            }
        }
    }

    /// What a matching `http-request` rule does.
    pub enum Action {
        Allow,
        /// Answers with a reply of its own, else with that of the status.
        Return(Answer),
        /// The same, and counts as denied.
        Deny(Answer),
        /// The same, after `timeout tarpit`.
        Tarpit(Answer),
        /// Closes without an answer.
        Reject,
        Metrics,
    }

    pub struct Answer {
        pub reply: &'static Reply,
        /// It has no text of its own: an `errorfile` for its status takes its
        /// place.
        pub is_standard: bool,
    }

    impl Answer {
        /// The built-in answer, or what is configured for its status.
        pub fn standard(status: u16) -> Self {
            Self { is_standard: true, ..Self::own(Reply::standard(status)) }
        }

        pub fn own(reply: Reply) -> Self {
            Self { reply: Box::leak(Box::new(reply)), is_standard: false }
        }
    }

    pub struct Rule {
        pub action: Action,
        pub condition: Option<Condition>,
    }

    impl Rule {
        pub fn holds(&self, acls: &[Acl], scene: &Scene) -> bool {
            self.condition.as_ref().is_none_or(|condition| condition.holds(acls, scene))
        }
    }
}

/// A line of the configuration: its words, read from left to right, and what
/// is wrong with it. Calls sys for the environment.
mod words {
    use crate::out::{Text, decimal, number, place};
    use crate::sys;

    /// Bytes and words of a line.
    const MAX_LINE: usize = 2048;
    const MAX_WORDS: usize = 64;
    /// Description, node, realm and what else a page shows, in bytes.
    const MAX_SHOWN: usize = 200;
    /// Longest time, in milliseconds: 24.8 days.
    const MAX_TIME_MS: u64 = 0x7fff_ffff;

    pub type Words = &'static [Text];

    /// The words that are left of a line. A method that gives None has set the
    /// error, so that `?` is all that its caller does.
    pub struct Line {
        words: Words,
        pub error: Option<Text>,
    }

    impl Line {
        pub fn new(words: Words) -> Self {
            Self { words, error: None }
        }

        /// Says what is wrong with a word, or without one; the first error counts.
        pub fn wrong<T>(&mut self, word: &[u8], what: &[u8]) -> Option<T> {
            self.set_error(word, what);
            None
        }

        #[inline(never)]
        fn set_error(&mut self, word: &[u8], what: &[u8]) {
            let text = text!(if word.is_empty() { "{}{}" } else { "'{}' {}" }, word, what);
            self.error.get_or_insert(text);
        }

        /// The next word, not taken.
        pub fn peek(&self) -> Option<Text> {
            self.words.first().copied()
        }

        pub fn next(&mut self) -> Option<Text> {
            let (first, rest) = self.words.split_first()?;
            self.words = rest;
            Some(first)
        }

        /// A condition begins with the next word.
        pub fn at_condition(&self) -> bool {
            self.peek().is_some_and(|word| place(word, "if unless").is_some())
        }

        /// The next word, unless a condition begins there.
        pub fn argument(&mut self) -> Option<Text> {
            if self.at_condition() { None } else { self.next() }
        }

        /// The next word, which has to be there.
        #[inline(never)]
        pub fn need(&mut self, what: &str) -> Option<Text> {
            match self.next() {
                None => self.wrong(b"", text!("{} is missing", what)),
                word => word,
            }
        }

        /// Takes the next word, where it is this one.
        pub fn take(&mut self, word: &[u8]) -> bool {
            self.peek() == Some(word) && self.next().is_some()
        }

        /// Takes the words up to this one, and this one.
        pub fn until(&mut self, word: &[u8]) -> Option<Words> {
            let end = self.words.iter().position(|other| *other == word)?;
            let (before, behind) = self.words.split_at(end);
            self.words = &behind[1..];
            Some(before)
        }

        /// Takes all words that are left.
        pub fn rest(&mut self) -> Words {
            std::mem::take(&mut self.words)
        }

        #[inline(never)]
        pub fn number(&mut self, least: u64, most: u64) -> Option<u64> {
            let word = self.need("a number")?;
            match decimal(word, least, most) {
                None => self.wrong(word, text!("is no number from {} to {}", number(least), number(most))),
                value => value,
            }
        }

        /// One of the words of a list; gives its place.
        #[inline(never)]
        pub fn one_of(&mut self, what: &str, list: &str) -> Option<usize> {
            let word = self.need(what)?;
            match place(word, list) {
                None => self.wrong(word, text!("is no {} that is supported : {}", what, list)),
                place => place,
            }
        }

        /// A name or a text that is shown, within its bound.
        pub fn text(&mut self, what: &str) -> Option<Text> {
            let word = self.need(what)?;
            self.shown(word)
        }

        /// All that is left, as one text that is shown.
        pub fn joined(&mut self) -> Option<Text> {
            let text = self.rest().join(&b' ').leak();
            self.shown(text)
        }

        fn shown(&mut self, text: Text) -> Option<Text> {
            if text.len() <= MAX_SHOWN { Some(text) } else { self.wrong(text, b"is longer than 200 bytes") }
        }

        /// A time in milliseconds, rounded up; 0 is no limit.
        pub fn time(&mut self, unit: &'static str) -> Option<u32> {
            let word = self.need("a time")?;
            let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let unit = if digits == word.len() { unit.as_bytes() } else { &word[digits..] };
            let micros = [1, 1000, 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000];
            let (Some(value), Some(unit)) = (decimal(&word[..digits], 0, u64::MAX), place(unit, "us ms s m h d"))
            else {
                return self.wrong(word, b"is no time : a number and us, ms, s, m, h or d");
            };
            match value.saturating_mul(micros[unit]).div_ceil(1000) {
                ms @ 0..=MAX_TIME_MS => Some(ms as u32),
                _ => self.wrong(word, b"is longer than 24.8 days"),
            }
        }
    }

    /// Splits one line into words: quotes, escapes, variables, comments.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn split(line: &[u8]) -> Result<Words, &'static str> {
        if line.len() > MAX_LINE || line.contains(&0) {
            return Err("the line is longer than 2048 bytes, or holds a NUL");
        }
        let mut words: Vec<Text> = Vec::new();
        let mut word: Option<Vec<u8>> = None;
        let mut quote = 0;
        let mut at = 0;
        loop {
            let byte = line.get(at).copied().unwrap_or(b'#');
            if quote == 0 && matches!(byte, b' ' | b'\t' | b'#') {
                words.extend(word.take().map(|word| &*word.leak()));
                if byte == b'#' {
                    break;
                }
            } else if at == line.len() {
                return Err("a quote is not closed");
            } else {
                let word = word.get_or_insert_default();
                match byte {
                    b'"' | b'\'' if quote == 0 => quote = byte,
                    _ if byte == quote => quote = 0,
                    b'\\' if quote != b'\'' => at += escape(&line[at + 1..], quote, word)?,
                    b'$' if quote == b'"' => at += variable(&line[at + 1..], word)?,
                    _ => word.push(byte),
                }
            }
            at += 1;
        }
        if words.len() > MAX_WORDS { Err("the line has more than 64 words") } else { Ok(words.leak()) }
    }

    /// Adds what a backslash and the bytes behind it stand for, where variables
    /// are expanded also `\$`; how many of these were used.
    fn escape(rest: &[u8], quote: u8, word: &mut Vec<u8>) -> Result<usize, &'static str> {
        let (byte, used) = match *rest {
            [byte @ (b' ' | b'#' | b'\\' | b'\'' | b'"'), ..] => (byte, 1),
            [b'$', ..] if quote == b'"' => (b'$', 1),
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b't', ..] => (b'\t', 1),
            [b'x', high, low, ..] => match (char::from(high).to_digit(16), char::from(low).to_digit(16)) {
                (Some(high), Some(low)) => ((high * 16 + low) as u8, 3),
                _ => return Err("'\\x' needs two hexadecimal digits"),
            },
            _ => (b'\\', 0),
        };
        word.push(byte);
        Ok(used)
    }

    /// Adds what `${NAME}`, `${NAME-default}` or `$NAME` behind its `$` stands for.
    fn variable(rest: &[u8], word: &mut Vec<u8>) -> Result<usize, &'static str> {
        let braced = usize::from(rest.starts_with(b"{"));
        let length = rest[braced..].iter().take_while(|&&byte| byte.is_ascii_alphanumeric() || byte == b'_').count();
        let (name, behind) = rest[braced..].split_at(length);
        let default = if braced == 1 { behind.iter().position(|&byte| byte == b'}') } else { Some(0) };
        match default {
            Some(length) if !name.is_empty() && (length == 0 || behind[0] == b'-') => {
                word.extend_from_slice(sys::variable(name).unwrap_or(&behind[length.min(1)..length]));
                Ok(name.len() + length + 2 * braced)
            }
            _ => Err("'$' is followed by no name of a variable, or '${' by no '}'"),
        }
    }
}

/// HTTP/1 requests as RFC 9110 and RFC 9112 define them, as pure functions
/// over byte slices. Owns the grammar; calls httparse, and out for numbers.
mod http {
    use crate::out::{Text, decimal, number, place, split, split_at_byte};
    pub use httparse::{EMPTY_HEADER, Header};
    use httparse::{Error::TooManyHeaders, Status::Complete, Status::Partial};

    /// Most header fields of a request; one more is a 400. Most requests have
    /// [`FEW_HEADERS`] at most, for which less has to be made ready.
    pub const MAX_HEADERS: usize = 100;
    pub const FEW_HEADERS: usize = 16;
    /// Longest line of a chunk's size with its extensions, in bytes.
    const MAX_CHUNK_LINE: usize = 1024;
    /// Longest trailer section of a chunked body, in bytes.
    const MAX_TRAILER: usize = 4096;
    /// Largest length that is believed, of a body or a chunk.
    const MAX_LENGTH: u64 = 1 << 53;

    /// What the bytes at the head of a buffer are.
    pub enum Parsed<'h, 'b> {
        /// Not a whole head yet.
        Partial,
        /// Not a request that can be served: answer this status and close.
        Bad(u16),
        /// More header fields than slots: give [`MAX_HEADERS`] of them.
        Crowded,
        Head(Request<'h, 'b>),
    }

    /// How the end of a request's body is found (RFC 9112 §6.3).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Framing {
        Length(u64),
        Chunked,
    }

    /// A whole request head, borrowed from the buffer.
    pub struct Request<'h, 'b> {
        /// The request line without its line end.
        pub line: &'b [u8],
        pub method: &'b [u8],
        pub target: &'b [u8],
        /// The version as written, such as `HTTP/1.1`.
        pub version: &'b [u8],
        pub headers: &'h [Header<'b>],
        /// Bytes of the head, with its empty line.
        pub length: usize,
        pub framing: Framing,
        /// The connection may carry another request after this one.
        pub keep_alive: bool,
        /// The client waits for `100 Continue` before it sends the body.
        pub expects_continue: bool,
    }

    impl<'b> Request<'_, 'b> {
        /// The target without scheme and authority (RFC 9112 §3.2.2).
        pub fn local(&self) -> &'b [u8] {
            match authority(self.target) {
                Some((_, b"")) => b"/",
                Some((_, local)) => local,
                None => self.target,
            }
        }

        pub fn path(&self) -> &'b [u8] {
            split_at_byte(self.local(), b'?').0
        }

        /// The query, without its `?`.
        pub fn query(&self) -> &'b [u8] {
            split_at_byte(self.local(), b'?').1
        }

        /// Values of every field of this name, in order.
        pub fn fields<'s>(&'s self, name: &'s [u8]) -> impl Iterator<Item = &'b [u8]> + 's {
            let named = self.headers.iter().filter(move |field| field.name.as_bytes().eq_ignore_ascii_case(name));
            named.map(|field| field.value)
        }

        #[inline(never)]
        pub fn is_head(&self) -> bool {
            matches!(self.method, b"HEAD")
        }

        /// The client speaks HTTP/1.0: it has to be told of keep-alive, and
        /// does not know chunks.
        #[inline(never)]
        pub fn is_old(&self) -> bool {
            matches!(self.version, [.., b'1', b'.', b'0'])
        }
    }

    /// Parses one request head at the start of `buffer`, which must not begin
    /// with an empty line: see [`blank_lines`].
    pub fn parse<'h, 'b>(buffer: &'b [u8], slots: &'h mut [Header<'b>]) -> Parsed<'h, 'b> {
        let Some(end) = buffer.iter().position(|&byte| byte == b'\n') else {
            // an error that shows early is answered early: TLS, other protocols
            let method = buffer.iter().take_while(|&&byte| is_token(byte)).count();
            let fine =
                buffer == b"\r" || method == buffer.len() || method > 0 && matches!(buffer[method], b' ' | b'\t');
            return if fine { Parsed::Partial } else { Parsed::Bad(400) };
        };
        let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
        let Some((method, target, version)) = request_line(line) else { return Parsed::Bad(400) };
        let all = slots.len() == MAX_HEADERS;
        let (length, headers) = match httparse::parse_headers(&buffer[end + 1..], slots) {
            Ok(Complete((length, headers))) => (end + 1 + length, headers),
            Ok(Partial) => return Parsed::Partial,
            Err(TooManyHeaders) if !all => return Parsed::Crowded,
            Err(_) => return Parsed::Bad(400),
        };
        let framing = Framing::Length(0);
        let (keep_alive, expects_continue) = (false, false);
        let mut request =
            Request { line, method, target, version, headers, length, framing, keep_alive, expects_continue };
        match interpret(&mut request) {
            // the preface of HTTP/2 with prior knowledge (RFC 9113 §3.4)
            Ok(()) if line == b"PRI * HTTP/2.0" => Parsed::Bad(505),
            Ok(()) => Parsed::Head(request),
            Err(status) => Parsed::Bad(status),
        }
    }

    /// Length of the empty lines at the start of a buffer, which a server
    /// passes over before a request (RFC 9112 §2.2).
    pub fn blank_lines(buffer: &[u8]) -> usize {
        let mut at = 0;
        while let [b'\n', ..] | [b'\r', b'\n', ..] = buffer[at..] {
            at += if buffer[at] == b'\n' { 1 } else { 2 };
        }
        at
    }

    /// `method SP request-target SP HTTP-version` (RFC 9112 §3), with the
    /// several blanks between that §3 lets a recipient accept.
    fn request_line(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let (method, rest) = line.split_at(line.iter().position(blank)?);
        let rest = &rest[rest.iter().position(|byte| !blank(byte))?..];
        let (target, rest) = rest.split_at(rest.iter().position(blank)?);
        let version = &rest[rest.iter().position(|byte| !blank(byte))?..];
        let [b'H', b'T', b'T', b'P', b'/', b'1'..=b'9', b'.', b'0'..=b'9'] = version else { return None };
        let fine = !method.is_empty()
            && method.iter().all(|&byte| is_token(byte))
            && target.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#')
            && (method != b"CONNECT" || is_authority(target) && target.contains(&b':'));
        fine.then_some((method, target, version))
    }

    /// Fills in what the header fields say; the error is the status to answer.
    fn interpret(request: &mut Request) -> Result<(), u16> {
        let old = request.is_old();
        let wanted = match request.method {
            b"CONNECT" => Some(request.target),
            _ => authority(request.target).map(|parts| parts.0),
        };
        let mut host: Option<&[u8]> = None;
        let mut length: Option<u64> = None;
        let (mut chunked, mut encoded, mut close, mut keep) = (false, false, false, false);
        for field in request.headers {
            let name = field.name.as_bytes();
            // most fields are none of these: look at the length first
            match name.len() {
                4 if name.eq_ignore_ascii_case(b"host") => {
                    let before = host.replace(field.value);
                    if !is_authority(field.value)
                        || before.is_some_and(|before| !before.eq_ignore_ascii_case(field.value))
                        || wanted.is_some_and(|wanted| !same_host(wanted, field.value))
                    {
                        return Err(400);
                    }
                }
                6 if name.eq_ignore_ascii_case(b"expect") => {
                    request.expects_continue = !old && field.value.eq_ignore_ascii_case(b"100-continue");
                }
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    for word in list(field.value) {
                        close |= word.eq_ignore_ascii_case(b"close");
                        keep |= word.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    for word in list(field.value) {
                        // 1*DIGIT (RFC 9110 §8.6)
                        let value = decimal(word, 0, MAX_LENGTH).ok_or(400u16)?;
                        if *length.get_or_insert(value) != value {
                            return Err(400);
                        }
                    }
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    for word in list(field.value) {
                        if chunked || word.is_empty() {
                            return Err(400);
                        }
                        chunked = word.eq_ignore_ascii_case(b"chunked");
                        encoded |= !chunked;
                    }
                }
                _ => {}
            }
        }
        if encoded {
            return Err(if chunked { 422 } else { 400 });
        }
        // RFC 9112 §6.1: its framing cannot be trusted; nor that of a body where none is expected
        let unexpected = length.unwrap_or(0) > 0 && place(request.method, "GET HEAD DELETE").is_some();
        if old && (chunked || unexpected) {
            return Err(413);
        }
        request.framing = if chunked { Framing::Chunked } else { Framing::Length(length.unwrap_or(0)) };
        // both framings at once are a smuggling attempt: never kept alive (§6.1)
        let both = chunked && length.is_some();
        request.keep_alive = !close && !both && (!old || keep);
        Ok(())
    }

    /// Of `scheme://authority` and what follows it, the latter two.
    fn authority(target: &[u8]) -> Option<(&[u8], &[u8])> {
        if let [b'/', ..] = target {
            return None;
        }
        let scheme = target.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let rest = target[scheme..].strip_prefix(b"://").filter(|_| scheme > 0)?;
        Some(rest.split_at(rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len())))
    }

    /// `uri-host [ ":" port ]` by its characters (RFC 3986 §3.2), no comma, which
    /// makes lists; empty is fine.
    fn is_authority(text: &[u8]) -> bool {
        text.strip_prefix(b"[").unwrap_or(text).iter().all(|byte| match byte {
            b'.' | b':' | b'-' | b'_' | b'~' | b'!' | b'$' | b'&'..=b'+' | b';' | b'=' | b'%' | b']' => true,
            byte => byte.is_ascii_alphanumeric(),
        })
    }

    /// The same host, default port or not.
    fn same_host(one: &[u8], other: &[u8]) -> bool {
        let bare = |text: &'_ [u8]| text.strip_suffix(b":80").unwrap_or(text).len();
        one[..bare(one)].eq_ignore_ascii_case(&other[..bare(other)])
    }

    /// `tchar` (RFC 9110 §5.6.2).
    pub fn is_token(byte: u8) -> bool {
        match byte {
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~' => true,
            byte => byte.is_ascii_alphanumeric(),
        }
    }

    /// Elements of a comma-separated list, blanks trimmed (RFC 9110 §5.6.1).
    pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
        split(value, b',').map(<[u8]>::trim_ascii)
    }

    /// A body that breaks its framing.
    #[derive(Debug)]
    pub struct BadBody;

    /// Looks for the end of a body that begins with `input`: its length, None
    /// where it has not all come.
    ///
    /// # Errors
    /// A chunk that does not follow RFC 9112 §7.1 to the letter.
    pub fn body(framing: Framing, input: &[u8]) -> Result<Option<usize>, BadBody> {
        if let Framing::Length(length) = framing {
            return Ok((length <= input.len() as u64).then_some(length as usize));
        }
        let mut used = 0;
        loop {
            let Some((line, size)) = chunk_size(&input[used..])? else { return Ok(None) };
            used += line;
            if size == 0 {
                let mut slots = [EMPTY_HEADER; MAX_HEADERS];
                return match httparse::parse_headers(&input[used..], &mut slots) {
                    Ok(Complete((length, _))) => Ok(Some(used + length)),
                    Ok(Partial) if input.len() - used <= MAX_TRAILER => Ok(None),
                    _ => Err(BadBody),
                };
            }
            if size > (input.len() - used) as u64 {
                return Ok(None);
            }
            used += size as usize;
            match input[used..] {
                [b'\r', b'\n', ..] => used += 2,
                [] | [b'\r'] => return Ok(None),
                _ => return Err(BadBody),
            }
        }
    }

    /// `chunk-size [ chunk-ext ] CRLF`: its length and the size. httparse reads
    /// it; what it lets pass in an extension and others end the line at (a bare
    /// LF) is refused here.
    fn chunk_size(input: &[u8]) -> Result<Option<(usize, u64)>, BadBody> {
        if input.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
            return Err(BadBody);
        }
        match httparse::parse_chunk_size(input) {
            Ok(Complete((length, size))) => {
                let control = input[..length - 2].iter().any(|&byte| byte < b' ' && byte != b'\t');
                let fine = !control && length <= MAX_CHUNK_LINE && size <= MAX_LENGTH;
                if fine { Ok(Some((length, size))) } else { Err(BadBody) }
            }
            Ok(Partial) if input.len() <= MAX_CHUNK_LINE => Ok(None),
            _ => Err(BadBody),
        }
    }

    /// The line of a status in an answer's head, such as `404 Not Found`, and
    /// the sentence of the body that goes with it where none is configured.
    /// The phrases are HAProxy's; a status, from 200 to 599, that has none here
    /// is named by its class.
    pub fn reason(status: u16) -> (Text, Text) {
        let code = number(status.into());
        let known = split(STATUSES, b'\n').find(|line| line.starts_with(code));
        let of_class = split(b"Success|Redirection|Client Error|Server Error", b'|')
            .nth(usize::from(status / 100).saturating_sub(2));
        split_at_byte(known.unwrap_or_else(|| text!("{} {}", code, of_class.unwrap_or(b""))), b'|')
    }

    const STATUSES: Text = b"\
200 OK|Ready.
201 Created
202 Accepted
204 No Content
206 Partial Content
301 Moved Permanently
302 Found
303 See Other
304 Not Modified
307 Temporary Redirect
308 Permanent Redirect
400 Bad request|The request does not follow HTTP.
401 Unauthorized|A user name and a password are needed here.
402 Payment Required
403 Forbidden|A rule forbids this request.
404 Not Found|Nothing is here.
405 Method Not Allowed
406 Not Acceptable
407 Unauthorized
408 Request Time-out|The request did not arrive in time.
409 Conflict
410 Gone
411 Length Required
412 Precondition Failed
413 Payload Too Large|The body of the request is not accepted.
414 Request-URI Too Long
415 Unsupported Media Type
418 I'm a teapot
421 Misdirected Request
422 Unprocessable Content|The encoding of the body is not understood.
423 Locked
425 Too Early
426 Upgrade Required
428 Precondition Required
429 Too Many Requests|Try again later.
431 Request Header Fields Too Large
451 Unavailable For Legal Reasons
500 Internal Server Error|The answer could not be made.
501 Not Implemented
502 Bad Gateway
503 Service Unavailable|No server is there to answer this request.
504 Gateway Time-out
505 HTTP Version Not Supported|Only HTTP/1 is spoken here.";
}

/// The batch of log lines and where it goes. Owns its buffer; calls sys only.
mod log {
    use crate::out::Out;
    use crate::sys;

    /// Room for the lines of one turn of the loop, in bytes.
    const BATCH: usize = 65_536;
    /// Longest line, as HAProxy's default; the rest is cut off.
    const MAX_LINE: usize = 1024;

    /// Lines of one turn, and a count of those that found no room.
    pub struct Log {
        batch: Vec<u8>,
        len: usize,
        /// Descriptor that the batch is for.
        descriptor: i32,
        pub dropped: u64,
    }

    impl Log {
        /// Takes the buffer, where there is something to log.
        pub fn new(wanted: bool) -> Self {
            Self { batch: vec![0; if wanted { BATCH } else { 0 }], len: 0, descriptor: 1, dropped: 0 }
        }

        /// Adds one line. What does not fit into [`MAX_LINE`] bytes is left out.
        pub fn line(&mut self, descriptor: i32, write: impl FnOnce(&mut Out)) {
            if descriptor != self.descriptor {
                self.flush();
            }
            if self.len == 0 {
                self.descriptor = descriptor;
            }
            // the batch is full, or a full pipe keeps it from another target
            if self.len + MAX_LINE > self.batch.len() || descriptor != self.descriptor {
                self.dropped += 1;
                return;
            }
            let mut out = Out::new(&mut self.batch[self.len..self.len + MAX_LINE]);
            out.keep_free(1);
            write(&mut out);
            out.keep_free(0);
            self.len += out.put("\n").len();
        }

        /// Writes the batch as far as its target takes it at once. What a full
        /// pipe leaves stays for the next turn; a closed one drops it.
        pub fn flush(&mut self) {
            let mut done = 0;
            while done < self.len {
                match sys::write_some(self.descriptor, &self.batch[done..self.len]) {
                    Some(0) => break,
                    Some(taken) => done += taken,
                    None => {
                        let lost = self.batch[done..self.len].iter().filter(|&&byte| byte == b'\n');
                        self.dropped += lost.count() as u64;
                        done = self.len;
                    }
                }
            }
            self.batch.copy_within(done..self.len, 0);
            self.len -= done;
        }

        /// Lines wait for a full pipe.
        pub fn waiting(&self) -> bool {
            self.len > 0
        }
    }
}

/// What std and mio have not, or have too large: files, the environment,
/// signals, limits, and the allocator. Owns all `unsafe` code.
mod sys {
    use crate::out::{Text, decimal, find, number, split, split_at_byte};
    use std::alloc::{GlobalAlloc, Layout};
    use std::os::fd::AsRawFd;
    use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering::Relaxed};

    unsafe extern "C" {
        fn mmap(at: usize, length: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
        fn open(path: *const u8, flags: i32, ...) -> i32;
        fn read(fd: i32, bytes: *mut u8, count: usize) -> isize;
        fn write(fd: i32, bytes: *const u8, count: usize) -> isize;
        fn close(fd: i32) -> i32;
        fn dup2(old: i32, new: i32) -> i32;
        fn poll(fds: *mut PollFd, count: u64, timeout_ms: i32) -> i32;
        fn chdir(path: *const u8) -> i32;
        fn listen(fd: i32, backlog: i32) -> i32;
        fn getenv(name: *const u8) -> *const u8;
        fn strlen(text: *const u8) -> usize;
        fn getpid() -> i32;
        fn setsid() -> i32;
        fn _exit(status: i32) -> !;
        fn signal(number: i32, handler: usize) -> usize;
        fn prlimit(pid: i32, resource: i32, new: *const [u64; 2], old: *mut [u64; 2]) -> i32;
        fn sysinfo(info: *mut SysInfo) -> i32;
        fn syscall(number: i64, ...) -> i64;
    }

    #[repr(C)]
    struct PollFd {
        fd: i32,
        events: i16,
        revents: i16,
    }

    /// `struct sysinfo` of Linux, 64-bit, with room to spare at its end.
    #[repr(C)]
    #[derive(Default)]
    struct SysInfo {
        uptime_and_loads: [u64; 4],
        total: u64,
        free: u64,
        shared_buffers_swap: [u64; 4],
        procs: u16,
        high: [u64; 2],
        unit: u32,
        spare: [u64; 16],
    }

    const SIGINT: i32 = 2;
    pub const SIGUSR1: i32 = 10;
    const SIGPIPE: i32 = 13;
    const SIGTERM: i32 = 15;
    const SIGCHLD: i32 = 17;
    const SIG_IGN: usize = 1;
    const RLIMIT_NOFILE: i32 = 7;
    const RLIMIT_AS: i32 = 9;
    const POLLOUT: i16 = 4;
    /// PIPE_BUF of Linux, in bytes.
    const PIPE_ROOM: usize = 4096;
    /// O_RDWR, and PROT_READ | PROT_WRITE, and MAP_PRIVATE | MAP_ANONYMOUS.
    const READ_WRITE: i32 = 2;
    const PROTECTION: i32 = 3;
    const ANONYMOUS: i32 = 0x22;
    /// clone(2), getdents64(2) and O_DIRECTORY, which differ between machines.
    #[cfg(target_arch = "x86_64")]
    const CLONE_GETDENTS_DIRECTORY: (i64, i64, i32) = (56, 217, 0x10000);
    #[cfg(target_arch = "aarch64")]
    const CLONE_GETDENTS_DIRECTORY: (i64, i64, i32) = (220, 61, 0x4000);
    /// Largest file that is read, in bytes.
    const MAX_FILE: usize = 256 << 10;
    /// Memory is taken from the system in pieces of at least so many bytes.
    const PIECE: usize = 64 << 10;

    /// The allocator. All memory is taken at start and nearly none of it is
    /// given back then, so it only moves on: a free list would be for nothing.
    pub struct Memory {
        next: AtomicUsize,
        end: AtomicUsize,
    }

    impl Memory {
        pub const fn new() -> Self {
            Self { next: AtomicUsize::new(0), end: AtomicUsize::new(0) }
        }
    }

    // SAFETY: pieces come from mmap, zeroed and of no one else; `next` only
    // grows within a piece, so that no two allocations overlap. One thread.
    unsafe impl GlobalAlloc for Memory {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let mut at = self.next.load(Relaxed).next_multiple_of(layout.align());
            if at + layout.size() > self.end.load(Relaxed) {
                let length = layout.size().next_multiple_of(4096).max(PIECE);
                // SAFETY: asks for new pages, at no address of ours.
                at = unsafe { mmap(0, length, PROTECTION, ANONYMOUS, -1, 0) } as usize;
                if at == usize::MAX {
                    return std::ptr::null_mut();
                }
                self.end.store(at + length, Relaxed);
            }
            self.next.store(at + layout.size(), Relaxed);
            at as *mut u8
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as alloc; pages of mmap are zero until they are written.
            unsafe { self.alloc(layout) }
        }

        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }

    static WAKER: AtomicPtr<mio::Waker> = AtomicPtr::new(std::ptr::null_mut());
    static SIGNALLED: AtomicI32 = AtomicI32::new(0);

    /// Only stores and writes to an eventfd: both are async-signal-safe.
    extern "C" fn on_signal(number: i32) {
        SIGNALLED.store(number, Relaxed);
        // SAFETY: null, or a waker that was leaked.
        if let Some(waker) = unsafe { WAKER.load(Relaxed).as_ref() } {
            let _ = waker.wake();
        }
    }

    /// Has TERM, INT and USR1 wake the loop. Where no signal is ever
    /// delivered (Unikraft) this has no effect.
    pub fn catch_signals(waker: mio::Waker) {
        WAKER.store(Box::leak(Box::new(waker)), Relaxed);
        for number in [SIGTERM, SIGINT, SIGUSR1] {
            // SAFETY: the handler has the C signature that signal(2) wants.
            unsafe { signal(number, on_signal as *const () as usize) };
        }
    }

    /// The last signal caught, 0 for none; reading it forgets it.
    pub fn take_signal() -> i32 {
        SIGNALLED.swap(0, Relaxed)
    }

    /// The words of the command line behind the program's name. A write to a
    /// closed pipe is an error from here on, not a signal; and what should be
    /// standard input, output or error is never a connection.
    pub fn arguments(count: i32, words: *const *const u8) -> Vec<Text> {
        // SAFETY: the system gives `count` pointers to texts that stay.
        unsafe {
            signal(SIGPIPE, SIG_IGN);
            let mut spare = 0;
            while (0..3).contains(&spare) {
                spare = open(c"/dev/null".as_ptr().cast(), READ_WRITE);
            }
            close(spare);
            (1..count.max(1) as usize).map(|at| text(*words.add(at))).collect()
        }
    }

    /// # Safety
    /// `at` points to a text that ends with NUL and stays.
    unsafe fn text(at: *const u8) -> Text {
        // SAFETY: see above.
        unsafe { std::slice::from_raw_parts(at, strlen(at)) }
    }

    /// A variable of the environment.
    pub fn variable(name: &[u8]) -> Option<Text> {
        // SAFETY: the name ends with NUL; the environment is never changed.
        unsafe {
            let value = getenv(text!("{}\0", name).as_ptr());
            (!value.is_null()).then(|| text(value))
        }
    }

    pub fn pid() -> u64 {
        // SAFETY: takes nothing.
        unsafe { getpid() as u64 }
    }

    /// Has the kernel keep so many connections that wait to be accepted, where
    /// it can: mio asks for 128.
    pub fn set_backlog(socket: &impl AsRawFd, connections: u32) {
        // SAFETY: the descriptor is open; listening again is allowed.
        unsafe { listen(socket.as_raw_fd(), connections as i32) };
    }

    /// Raises the limit of open files towards `wanted`; returns what is allowed.
    pub fn allow_files(wanted: u64) -> u64 {
        let mut limit = [0u64; 2];
        // SAFETY: each pointer is null or to two 64-bit words.
        unsafe {
            if prlimit(0, RLIMIT_NOFILE, std::ptr::null(), &raw mut limit) != 0 {
                return u64::MAX;
            }
            // root may raise the hard limit too; anybody may go up to it
            for new in [[wanted, limit[1].max(wanted)], [wanted.min(limit[1]), limit[1]]] {
                if limit[0] < wanted && prlimit(0, RLIMIT_NOFILE, &raw const new, std::ptr::null_mut()) == 0 {
                    limit = new;
                }
            }
        }
        limit[0]
    }

    /// Bytes of memory that this process may still take: the least of the
    /// address-space limit, the control group's limit and what is free.
    pub fn available_memory() -> u64 {
        let mut limit = [u64::MAX; 2];
        let mut info = SysInfo::default();
        // SAFETY: both get pointers to structures of the size they fill; where
        // they fail, the structures say that there is no limit.
        unsafe {
            prlimit(0, RLIMIT_AS, std::ptr::null(), &raw mut limit);
            sysinfo(&raw mut info);
        }
        let free = if info.total > 0 { info.free.saturating_mul(info.unit.max(1).into()) } else { u64::MAX };
        // on Linux, memory that the page cache holds is not "free"
        let free = number_in(b"/proc/meminfo", b"MemAvailable:").map_or(free, |kib| kib * 1024);
        free.min(limit[0]).min(number_in(b"/sys/fs/cgroup/memory.max", b"").unwrap_or(u64::MAX))
    }

    /// The first number behind a key in a file of the kernel's.
    fn number_in(file: Text, key: &[u8]) -> Option<u64> {
        let text = read_file(file).ok()?;
        let at = find(text, key)?;
        let digits = text[at + key.len()..].trim_ascii_start().split(|byte| !byte.is_ascii_digit()).next()?;
        decimal(digits, 0, u64::MAX >> 10)
    }

    /// Writes what a descriptor takes at once, without blocking and without
    /// changing its flags, which other processes may share: poll(2) promises
    /// room for [`PIPE_ROOM`] bytes. Gives the bytes taken, 0 when it is full,
    /// None when it is closed.
    pub fn write_some(fd: i32, bytes: &[u8]) -> Option<usize> {
        let mut pollfd = PollFd { fd, events: POLLOUT, revents: 0 };
        // SAFETY: one valid pollfd; the pointer and length are one slice's.
        unsafe {
            if poll(&raw mut pollfd, 1, 0) <= 0 {
                return Some(0);
            }
            usize::try_from(write(fd, bytes.as_ptr(), bytes.len().min(PIPE_ROOM))).ok()
        }
    }

    /// Writes messages. A closed output is nobody's error at start.
    pub fn print(fd: i32, text: impl AsRef<[u8]>) {
        let mut text = text.as_ref();
        while !text.is_empty() {
            // SAFETY: the pointer and the length are one slice's.
            match unsafe { write(fd, text.as_ptr(), text.len()) } {
                taken @ 1.. => text = &text[taken as usize..],
                _ => return,
            }
        }
    }

    /// One message in HAProxy's form: `[LEVEL]    (PID) : text`.
    pub fn message(level: &str, text: Text) {
        let padding = &"           "[level.len() + 2..];
        print(2, text!("[{}]{}({}) : {}\n", level, padding, number(pid()), text));
    }

    /// Goes on in a child process of its own session, with no terminal.
    ///
    /// # Errors
    /// Where there are no processes (Unikraft).
    pub fn background() -> Result<(), Text> {
        // SAFETY: no thread exists, no lock is held; the path ends with NUL.
        unsafe {
            match syscall(CLONE_GETDENTS_DIRECTORY.0, i64::from(SIGCHLD), 0i64, 0i64, 0i64, 0i64) {
                0 => {}
                1.. => _exit(0),
                _ => return Err(reason(&std::io::Error::last_os_error())),
            }
            setsid();
            let null = open(c"/dev/null".as_ptr().cast(), READ_WRITE);
            for fd in 0..3 {
                dup2(null, fd);
            }
            close(null);
        }
        Ok(())
    }

    /// What an error of the system is called, without std's formatting code.
    pub fn reason(error: &std::io::Error) -> Text {
        const NAMES: Text = b"1 not permitted|2 no such file or directory|12 no memory|13 permission denied|\
                             20 not a directory|21 it is a directory|24 too many open files|38 not supported here|\
                             97 this address family is not supported|98 the address is in use|\
                             99 this machine has no such address";
        let code = number(error.raw_os_error().unwrap_or(0) as u64);
        let name = split(NAMES, b'|').find_map(|name| name.strip_prefix(text!("{} ", code)));
        name.unwrap_or(text!("error {}", code))
    }

    fn refused<T>(what: &[u8], name: Text) -> Result<T, Text> {
        Err(text!("{} '{}' : {}", what, name, reason(&std::io::Error::last_os_error())))
    }

    pub fn change_directory(name: Text) -> Result<(), Text> {
        // SAFETY: the path ends with NUL.
        match unsafe { chdir(text!("{}\0", name).as_ptr()) } {
            0 => Ok(()),
            _ => refused(b"cannot change to directory", name),
        }
    }

    /// A whole file of at most 256 KiB, for good.
    ///
    /// # Errors
    /// A message that names the file and the reason.
    pub fn read_file(name: Text) -> Result<Text, Text> {
        let mut text = Vec::new();
        let mut bytes = [0; 4096];
        // SAFETY: the path ends with NUL; the pointer and length are one array's.
        unsafe {
            let fd = open(text!("{}\0", name).as_ptr(), 0);
            if fd < 0 {
                return refused(b"cannot read", name);
            }
            loop {
                match read(fd, bytes.as_mut_ptr(), bytes.len()) {
                    _ if text.len() > MAX_FILE => return Err(text!("'{}' is larger than 256 KiB", name)),
                    count @ 1.. => text.extend_from_slice(&bytes[..count as usize]),
                    0 => break,
                    _ => return refused(b"cannot read", name),
                }
            }
            close(fd);
        }
        Ok(text.leak())
    }

    /// The files that `-f` names: the file itself, or a directory's `*.cfg` in
    /// the order of their names.
    pub fn configuration_files(name: Text) -> Vec<Text> {
        let mut files: Vec<Text> = Vec::new();
        let mut bytes = [0u8; 4096];
        // SAFETY: the path ends with NUL; the pointer and length are one array's.
        let fd = unsafe { open(text!("{}\0", name).as_ptr(), CLONE_GETDENTS_DIRECTORY.2) };
        if fd < 0 {
            return vec![name];
        }
        loop {
            // SAFETY: as above; fails where O_DIRECTORY was not heeded.
            let count = unsafe { syscall(CLONE_GETDENTS_DIRECTORY.1, i64::from(fd), bytes.as_mut_ptr(), bytes.len()) };
            if count <= 0 {
                files.extend((count < 0).then_some(name));
                break;
            }
            // each entry: 16 bytes, its length in two, its type, its name
            let mut entries = &bytes[..count as usize];
            while entries.len() > 19 {
                let entry = split_at_byte(&entries[19..], 0).0;
                if entry.ends_with(b".cfg") {
                    let file = text!("{}/{}", name, entry);
                    files.insert(files.iter().take_while(|other| **other < file).count(), file);
                }
                entries = &entries[usize::from(u16::from_le_bytes([entries[16], entries[17]]))..];
            }
        }
        // SAFETY: closes what was opened here, if it was.
        unsafe { close(fd) };
        files
    }
}

/// A bounded writer over a byte slice, and text that is built at start. Owns
/// nothing; calls itoa only.
mod out {
    /// Text that lives as long as the program: what is configured and what is
    /// built from it at start. It is never given back, nor is any more taken
    /// once the program serves.
    pub type Text = &'static [u8];

    /// Longest escape of a byte in HTML, in bytes.
    const MAX_ESCAPE: usize = 6;

    /// Gives a template part by part: what stands around each `{}`, and in its
    /// place the next of the values.
    pub fn parts(template: &str, values: &[&[u8]], put: &mut dyn FnMut(&[u8])) {
        let mut values = values.iter();
        let mut rest = template.as_bytes();
        while let Some(at) = rest.windows(2).position(|two| two == b"{}") {
            put(&rest[..at]);
            put(values.next().unwrap_or(&&b""[..]));
            rest = &rest[at + 2..];
        }
        put(rest);
    }

    /// See `text!`.
    #[inline(never)]
    pub fn text(template: &str, values: &[&[u8]]) -> Text {
        let size = values.iter().fold(template.len(), |size, value| size + value.len());
        let mut text = Vec::with_capacity(size);
        parts(template, values, &mut |part| text.extend_from_slice(part));
        text.leak()
    }

    /// A number as a text.
    #[inline(never)]
    pub fn number(number: u64) -> Text {
        text!("{}", itoa::Buffer::new().format(number as i64))
    }

    /// A text as HTML shows it, for good.
    pub fn escaped(text: &[u8]) -> Text {
        let mut room = vec![0; text.len() * MAX_ESCAPE];
        text!("{}", Out::new(&mut room).html(text).written())
    }

    /// What stands before and behind the first such byte.
    #[inline(never)]
    pub fn split_at_byte(text: &[u8], byte: u8) -> (&[u8], &[u8]) {
        match text.iter().position(|&other| other == byte) {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => (text, b""),
        }
    }

    /// Where `part` first stands in `text`.
    pub fn find(text: &[u8], part: &[u8]) -> Option<usize> {
        (0..(text.len() + 1).saturating_sub(part.len())).find(|&at| text[at..].starts_with(part))
    }

    /// The parts of a text between such bytes. One type for all lists and
    /// lines, where those of std would be compiled anew for each.
    pub struct Split<'a> {
        rest: Option<&'a [u8]>,
        by: u8,
    }

    pub fn split(text: &[u8], by: u8) -> Split<'_> {
        Split { rest: Some(text), by }
    }

    impl<'a> Iterator for Split<'a> {
        type Item = &'a [u8];

        #[inline(never)]
        fn next(&mut self) -> Option<&'a [u8]> {
            let rest = self.rest?;
            let end = rest.iter().position(|&byte| byte == self.by);
            self.rest = end.map(|end| &rest[end + 1..]);
            Some(&rest[..end.unwrap_or(rest.len())])
        }
    }

    /// The place of a word in a list of words with blanks between.
    #[inline(never)]
    pub fn place(word: &[u8], list: &str) -> Option<usize> {
        split(list.as_bytes(), b' ').position(|one| one == word)
    }

    /// A decimal number within bounds, digits only.
    pub fn decimal(text: &[u8], least: u64, most: u64) -> Option<u64> {
        let digit = |sum: u64, byte: &u8| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        };
        let number = text.iter().try_fold(0, digit).filter(|_| !text.is_empty())?;
        (least..=most).contains(&number).then_some(number)
    }

    /// Copies equally long slices. Most are a few bytes, for which memcpy would
    /// take longer to start than to copy: those are two overlapping words.
    fn copy(from: &[u8], to: &mut [u8]) {
        fn ends<const N: usize>(from: &[u8], to: &mut [u8]) {
            if let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
                if let Some(to) = to.first_chunk_mut::<N>() {
                    *to = *first;
                }
                if let Some(to) = to.last_chunk_mut::<N>() {
                    *to = *last;
                }
            }
        }
        match from.len() {
            0 => {}
            1 => to[0] = from[0],
            2..4 => ends::<2>(from, to),
            4..8 => ends::<4>(from, to),
            8..16 => ends::<8>(from, to),
            16..33 => ends::<16>(from, to),
            _ => to.copy_from_slice(from),
        }
    }

    /// Writes into a fixed slice. What does not fit is not written, and
    /// [`Out::full`] stays set until the next [`Out::truncate`].
    pub struct Out<'a> {
        bytes: &'a mut [u8],
        len: usize,
        /// What may be written to for now ends here.
        limit: usize,
        pub full: bool,
    }

    impl<'a> Out<'a> {
        pub fn new(bytes: &'a mut [u8]) -> Self {
            Self { limit: bytes.len(), bytes, len: 0, full: false }
        }

        /// Has so many bytes at the end not written to.
        pub fn keep_free(&mut self, count: usize) {
            self.limit = self.bytes.len() - count;
        }

        pub fn put(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
            self.put_bytes(text.as_ref())
        }

        #[inline(never)]
        fn put_bytes(&mut self, text: &[u8]) -> &mut Self {
            let end = self.len + text.len();
            match self.bytes.get_mut(self.len..end) {
                Some(room) if end <= self.limit => {
                    copy(text, room);
                    self.len = end;
                }
                _ => self.full = true,
            }
            self
        }

        /// See `put!`.
        #[inline(never)]
        pub fn form(&mut self, template: &str, values: &[&[u8]]) -> &mut Self {
            parts(template, values, &mut |part| {
                self.put_bytes(part);
            });
            self
        }

        #[inline(never)]
        pub fn num(&mut self, number: i64) -> &mut Self {
            // most numbers of the statistics have one digit
            if let 0..=9 = number {
                return self.put_bytes(&[b'0' + number as u8]);
            }
            self.put_bytes(itoa::Buffer::new().format(number).as_bytes())
        }

        /// A number with leading zeros, `digits` wide, at most 4.
        pub fn padded(&mut self, number: u64, digits: usize) {
            let mut buffer = itoa::Buffer::new();
            let text = buffer.format(number as i64);
            self.put(&b"0000"[..digits.saturating_sub(text.len()).min(4)]).put(text);
        }

        /// A number in hexadecimal digits.
        pub fn hex(&mut self, number: usize) -> &mut Self {
            let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
            for shift in (0..digits).rev() {
                self.put([b"0123456789abcdef"[number >> (4 * shift) & 15]]);
            }
            self
        }

        /// Text inside HTML, element or attribute.
        pub fn html(&mut self, text: &[u8]) -> &mut Self {
            for part in text.split_inclusive(|byte| b"&<>\"'".contains(byte)) {
                match part {
                    [plain @ .., b'&'] => self.put(plain).put("&amp;"),
                    [plain @ .., b'<'] => self.put(plain).put("&lt;"),
                    [plain @ .., b'>'] => self.put(plain).put("&gt;"),
                    [plain @ .., b'"'] => self.put(plain).put("&quot;"),
                    [plain @ .., b'\''] => self.put(plain).put("&#39;"),
                    plain => self.put(plain),
                };
            }
            self
        }

        /// Leaves room for what [`Out::fill_gap`] writes later.
        pub fn gap(&mut self, bytes: usize) {
            self.full |= bytes > self.room();
            self.len += bytes.min(self.room());
        }

        /// Writes `text` into a gap of `gap` bytes that begins at `at`, and
        /// closes what is left of it. What stands behind only moves down:
        /// memmove is several times as fast in this direction.
        pub fn fill_gap(&mut self, at: usize, gap: usize, text: &[u8]) {
            debug_assert!(text.len() <= gap && at + gap <= self.len);
            self.bytes[at..at + text.len()].copy_from_slice(text);
            self.bytes.copy_within(at + gap..self.len, at + text.len());
            self.len -= gap - text.len();
        }

        pub fn len(&self) -> usize {
            self.len
        }

        /// Bytes that still fit.
        pub fn room(&self) -> usize {
            self.limit.saturating_sub(self.len)
        }

        /// Forgets everything from `len` on, and that the slice was full.
        pub fn truncate(&mut self, len: usize) {
            debug_assert!(len <= self.len);
            self.len = len;
            self.full = false;
        }

        pub fn written(&self) -> &[u8] {
            &self.bytes[..self.len]
        }
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tests::fuzz(bytes));

#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(unused_imports))]
mod tests {
    use crate::config::{ALERT, Config, Parser, Report};
    use crate::connection::{Connection, Next, Service};
    use crate::http::{self, Framing, Parsed};
    use crate::log::Log;
    use crate::out::Out;
    use crate::rules::Wall;
    use crate::stats::{Process, Rate, Statistics};

    /// One round under cargo fuzz: a configuration, or a stream of requests
    /// that comes in pieces of the lengths that the first bytes say.
    #[cfg(fuzzing)]
    pub fn fuzz(bytes: &[u8]) {
        thread_local! { static SERVICE: std::cell::RefCell<Service> = service(RULES).into(); }
        match bytes {
            [0, text @ ..] => drop(configured(&String::from_utf8_lossy(text))),
            [first, second, stream @ ..] => SERVICE.with_borrow_mut(|service| {
                let mut turn = 0usize;
                answers(service, stream, || {
                    turn += 1;
                    1 + usize::from(if turn % 2 == 0 { *first } else { *second })
                });
            }),
            _ => {}
        }
    }

    /// Numbers that are the same in every run (xorshift).
    struct Seeded(u64);

    impl Seeded {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound as u64) as usize
        }

        /// A text from pieces that often mean something, and from any bytes.
        fn soup(&mut self, pieces: &[&[u8]], length: usize) -> Vec<u8> {
            let mut text = Vec::new();
            for _ in 0..self.below(length) {
                match self.below(5) {
                    0 => text.push(self.below(256) as u8),
                    _ => text.extend_from_slice(pieces[self.below(pieces.len())]),
                }
            }
            text
        }
    }

    /// Rounds of the random tests: more with HAPROXY_TEST_ROUNDS.
    fn rounds() -> usize {
        std::env::var("HAPROXY_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000)
    }

    fn configured(text: &str) -> (Config, Report) {
        let mut parser = Parser::new();
        parser.parse(b"test", text!("{}", text));
        parser.finish()
    }

    fn service(text: &str) -> Service {
        let (config, report) = configured(&[text, "\n"].concat());
        assert!(!report.has(ALERT));
        let config: &'static Config = Box::leak(Box::new(config));
        let statistics = Statistics::new(config, Process { maxconn: 10, ..Process::default() });
        Service { statistics, log: Log::new(true), wall: Wall::default() }
    }

    const RULES: &str = "frontend web\n mode http\n bind :1\n timeout client 5s\n stats uri /stats\n option httplog\n\
                         log stdout format raw local0\n monitor-uri /alive\n\
                         http-request return lf-string \"%[path] %HQ %[req.hdr(x)]\" hdr a %[url] if { path_beg /lf }\n\
                         http-request return lf-string %[hdr(b)]%[hdr(b)]%[hdr(x)] if { path /twice }\n\
                         http-request deny if { path_sub deny } or { hdr(x) -m found }\n\
                         http-request use-service prometheus-exporter if { path /metrics }";

    /// What a connection answers to bytes that come in pieces of the lengths
    /// that `piece` gives; every answer is sent at once.
    fn answers(service: &mut Service, bytes: &[u8], mut piece: impl FnMut() -> usize) -> Vec<u8> {
        let address = "127.0.0.1:1".parse().unwrap();
        let mut connection = Connection::open(&service.statistics.config.proxies[0], address, address, service);
        let (mut answered, mut input, mut rest) = (Vec::new(), Vec::new(), bytes);
        let bufsize = service.statistics.config.global.bufsize;
        let mut buffer = vec![0; bufsize];
        for turn in 0.. {
            assert!(turn < 100_000, "a connection that is stuck");
            let mut out = Out::new(&mut buffer);
            let (used, next) = connection.advance(service, &input, rest.is_empty(), &mut out);
            answered.extend_from_slice(out.written());
            input.drain(..used);
            match next {
                Next::Close => break,
                Next::Write => {}
                _ => {
                    let room = bufsize - input.len();
                    let length = piece().min(rest.len()).min(room);
                    assert!(room > 0, "a full buffer that is not answered");
                    input.extend_from_slice(&rest[..length]);
                    rest = &rest[length..];
                }
            }
        }
        connection.closed(service, &input);
        answered
    }

    fn whole(service: &mut Service, bytes: &[u8]) -> String {
        String::from_utf8_lossy(&answers(service, bytes, || usize::MAX)).into_owned()
    }

    #[test]
    fn a_request_line_is_what_the_specification_says() {
        let parse = |line: &str| {
            let mut slots = [http::EMPTY_HEADER; http::MAX_HEADERS];
            matches!(http::parse(text!("{}\r\n\r\n", line), &mut slots), Parsed::Head(_))
        };
        for line in
            ["GET / HTTP/1.1", "GET  /  HTTP/1.0", "BREW * HTTP/2.0", "CONNECT a:1 HTTP/1.1", "GET http://a HTTP/1.1"]
        {
            assert!(parse(line), "{line}");
        }
        for line in
            ["GET /", "GET / HTTP/1.10", "GET / HTTP/0.9", "G(T / HTTP/1.1", "GET /# HTTP/1.1", "CONNECT / HTTP/1.1"]
        {
            assert!(!parse(line), "{line}");
        }
    }

    #[test]
    fn a_chunked_body_ends_where_it_says_however_it_is_cut() {
        let body = b"3;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nt: 1\r\n\r\n";
        for cut in 0..body.len() {
            assert_eq!(http::body(Framing::Chunked, &body[..cut]).unwrap(), None, "{cut}");
        }
        assert_eq!(http::body(Framing::Chunked, &[body, &b"GET"[..]].concat()).unwrap(), Some(body.len()));
        for bad in ["x\r\n", "-1\r\n", " 1\r\n", "1\nab", "1\r\nab\r\n", "1;a\nb\r\n", "fffffffffffffffff\r\n"] {
            assert!(http::body(Framing::Chunked, bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_is_read_as_std_reads_it() {
        let texts = "1.2.3.4 0.0.0.0 255.255.255.255 256.1.1.1 1.2.3 1.2.3.4.5 1.2.3. :: ::1 1:: 1::2 1:2:3:4:5:6:7:8 \
                     1:2:3:4:5:6:7 1:2:3:4:5:6:7::8 1:2:3:4:5:6::8 ::ffff:1.2.3.4 1:2:3:4:5:6:1.2.3.4 1.2.3.4:: ::1::2 \
                     ::: 1: :1 12345:: g:: 1:2:3:4:5:6:7:8:9 1:2:3:4:5:6:7:1.2.3.4 fe80::A:b";
        for text in texts.split(' ') {
            let wanted = text.parse::<std::net::IpAddr>().ok();
            assert_eq!(crate::rules::parse_ip(text.as_bytes()), wanted, "{text}");
        }
    }

    #[test]
    fn a_rate_is_of_the_last_second() {
        let mut rate = Rate::default();
        (0..10).for_each(|at| rate.add(at * 100, 1));
        assert_eq!((rate.read(999), rate.read(1500), rate.read(3000)), (10, 5, 0));
        rate.add(1500, 4);
        assert_eq!((rate.read(1500), rate.max), (9, 10));
    }

    #[test]
    fn numbers_and_text_never_leave_their_buffer() {
        let mut bytes = [0; 16];
        let mut out = Out::new(&mut bytes);
        out.put("0123456789").num(12345).put("67");
        assert_eq!((out.written(), out.full), (&b"012345678912345"[..], true));
        out.truncate(2);
        out.html(b"<a&").padded(7, 3);
        assert_eq!((out.written(), out.full), (&b"01&lt;a&amp;007"[..], false));
    }

    #[test]
    fn answers_do_not_depend_on_how_the_bytes_are_cut() {
        let mut random = Seeded(1);
        let requests: [&[u8]; 9] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /alive HTTP/1.1\r\nhost: a\r\n\r\n",
            b"HEAD /lf?q=1 HTTP/1.1\r\nx:  y \r\n\r\n",
            b"GET /lf HTTP/1.1\n\n",
            b"\r\nGET /deny HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
            b"GET /metrics?scope=bad HTTP/1.1\r\n\r\n",
            b"BAD\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
            b"GET / HT",
        ];
        for _ in 0..rounds() / 4 {
            let stream =
                (0..1 + random.below(6)).map(|_| requests[random.below(requests.len())]).collect::<Vec<_>>().concat();
            let once = answers(&mut service(RULES), &stream, || usize::MAX);
            let cut = answers(&mut service(RULES), &stream, || 1 + random.below(20));
            assert_eq!(once, cut, "{:?}", String::from_utf8_lossy(&stream));
        }
    }

    #[test]
    fn any_bytes_get_an_answer_or_a_close_and_are_counted() {
        let pieces: &[&[u8]] = &[
            b"GET ",
            b"POST ",
            b"/",
            b"/stats",
            b";csv",
            b"/lf?a=%",
            b" HTTP/1.1\r\n",
            b"\r\n",
            b"\r\n\r\n",
            b"\n",
            b"host: a\r\n",
            b"content-length: 5\r\n",
            b"transfer-encoding: chunked\r\n",
            b"3\r\nabc\r\n",
            b"0\r\n\r\n",
            b"connection: close\r\n",
            b"expect: 100-continue\r\n",
            b"http://a:80/",
            b"x: ",
            b"?",
            b"GET / HTTP/1.1\r\n\r\n",
        ];
        let mut random = Seeded(2);
        let mut service = service(RULES);
        for _ in 0..rounds() {
            let stream = random.soup(pieces, 40);
            answers(&mut service, &stream, || 1 + random.below(30));
        }
        let csv = whole(&mut service, b"GET /stats;csv HTTP/1.1\r\nconnection: close\r\n\r\n");
        let columns = |line: usize| {
            csv.split("\r\n\r\n").nth(1).unwrap().lines().nth(line).unwrap().split(',').map(str::to_owned)
        };
        let value =
            |name: &str| columns(0).zip(columns(1)).find(|pair| pair.0 == name).unwrap().1.parse::<u64>().unwrap();
        let answered: u64 =
            ["1xx", "2xx", "3xx", "4xx", "5xx", "other"].iter().map(|class| value(&format!("hrsp_{class}"))).sum();
        assert_eq!((value("req_tot"), value("scur")), (answered + 1, 1), "all but the request in hand are settled");
    }

    #[test]
    fn a_csv_longer_than_a_buffer_is_whole_every_time() {
        let many: String = (0..60).map(|at| format!("\nlisten l{at}\n bind :1\n timeout client 5s")).collect();
        let mut service = service(&[RULES, &many].concat());
        for _ in 0..3 {
            let csv = whole(&mut service, b"GET /stats;csv HTTP/1.0\r\n\r\n");
            assert_eq!(csv.split("\r\n\r\n").nth(1).unwrap().lines().count(), 1 + 1 + 2 * 60);
        }
    }

    #[test]
    fn clocks_may_jump() {
        let mut random = Seeded(4);
        let mut service = service(RULES);
        for _ in 0..rounds() / 10 {
            let address = "127.0.0.1:1".parse().unwrap();
            let mut connection =
                Connection::open(&service.statistics.config.proxies[0], address, address, &mut service);
            for _ in 0..20 {
                service.statistics.now_ms = random.below(1 << 40) as u64;
                service.wall = Wall { seconds: random.below(1 << 34) as u64, millis: random.below(1000) as u64 };
                let request = [&b"GET /lf HTTP/1.1\r\n\r\n"[..], b"GET /stats HTTP/1.1\r\n\r\n", b""][random.below(3)];
                let mut buffer = [0; 16384];
                let (_, next) = connection.advance(&mut service, request, false, &mut Out::new(&mut buffer));
                assert!(next == Next::Read);
                assert!(connection.deadline(&service, b"", false) > 0);
            }
            connection.closed(&mut service, b"");
        }
    }

    #[test]
    fn any_text_is_a_configuration_or_yields_errors() {
        let pieces: &[&[u8]] = &[
            b"frontend ",
            b"listen a\n",
            b"defaults",
            b"global\n",
            b"\n",
            b" ",
            b"bind ",
            b":80",
            b"[::1]:1",
            b"mode http\n",
            b"stats ",
            b"uri",
            b"refresh 10",
            b"http-request ",
            b"return ",
            b"deny",
            b" if ",
            b"{ ",
            b" }",
            b"path ",
            b"path_dir ",
            b"/",
            b"\"",
            b"'",
            b"\\",
            b"${X}",
            b"acl ",
            b"a ",
            b"or ",
            b"!",
            b"lf-string ",
            b"%[",
            b"]",
            b"%{+Q}",
            b"%ci",
            b"hdr(",
            b")",
            b"log ",
            b"stdout ",
            b"local0",
            b"userlist u\n",
            b"user a insecure-password b\n",
            b"timeout client ",
            b"30s",
            b"redirect prefix ",
            b"code 301",
            b"status 200 ",
            b"string ",
            b"src 1.2.3.4/8 ",
            b"monitor fail ",
            b"option ",
            b"no ",
            b"httplog\n",
            b"description ",
            b"-m ",
            b"len ",
        ];
        let mut random = Seeded(3);
        for _ in 0..rounds() {
            let text = random.soup(pieces, 60);
            let (config, report) = configured(&String::from_utf8_lossy(&text));
            report.has(ALERT);
            assert!(config.proxies.iter().all(|proxy| config.reply(proxy, 503).status == 503));
        }
    }

    #[test]
    fn rules_see_what_the_request_says() {
        let mut service = service(RULES);
        let mut body =
            |request: &str| whole(&mut service, request.as_bytes()).split("\r\n\r\n").nth(1).unwrap_or("").to_owned();
        assert_eq!(body("GET /lf/a?b=1 HTTP/1.1\r\nx: 1, 2\r\n\r\n"), "/lf/a ?b=1 2");
        assert!(body("GET /a/deny HTTP/1.1\r\n\r\n").contains("403 Forbidden"));
        assert!(body("GET / HTTP/1.1\r\nx: 1\r\n\r\n").contains("403 Forbidden"));
        assert!(body("GET / HTTP/1.1\r\n\r\n").contains("503 Service Unavailable"));
        // an answer that does not fit is none, even if its last piece would fit again
        let twice = |length: usize| text!("GET /twice HTTP/1.1\r\nx: 1\r\nb: {}\r\n\r\n", vec![b'b'; length]);
        assert_eq!(body(&String::from_utf8_lossy(twice(7000))).len(), 14_001);
        assert!(body(&String::from_utf8_lossy(twice(9000))).contains("500 Internal Server Error"));
    }

    #[test]
    fn the_support_table_names_each_word_once() {
        let text = String::from_utf8_lossy(crate::config::support()).into_owned();
        let lines = text.lines().skip(1).take(3).flat_map(|line| line.split(": ").nth(1).unwrap().split(", "));
        let mut words: Vec<&str> = lines.filter(|word| !matches!(*word, "user" | "group")).collect();
        let count = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!((words.len(), words[0] as &str), (count, ".alert"));
    }
}
