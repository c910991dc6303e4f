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
//! | module       | owns                                                    | may call                     |
//! |--------------|---------------------------------------------------------|------------------------------|
//! | `main`       | the command line, messages, start                       | all                          |
//! | `event_loop` | sockets, slots, buffers, timers, signals: all of mio    | connection, log, sys         |
//! | `connection` | one connection as a state machine over byte slices      | stats, rules, http, log      |
//! | `stats`      | counters, the table of columns, all statistics formats  | config, http                 |
//! | `config`     | the configuration language, the table of keywords       | rules, log, http, sys        |
//! | `rules`      | conditions, fetches, format strings, replies            | http, sys                    |
//! | `log`        | the batch of log lines and where it goes                | sys                          |
//! | `http`       | RFC 9112 parsing: heads, framing, chunks                | httparse                     |
//! | `sys`        | the few calls that std and mio have not, all `unsafe`   | libc, as linked by std       |
//! | `out`        | a bounded writer, and text that is built at start       | itoa; used by all            |
//!
//! To add a configuration word: a line in `config::KEYWORDS`. A statistics
//! column: a line in `stats::COLUMNS`. A fetch: a line in `rules::FETCHES`.
//! An action: a variant of `rules::Action` and its arm in `connection`.

use out::Text;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::exit;

/// Joins byte strings, for messages and for what is built once at start.
macro_rules! cat {
    ($text:literal) => {
        $text.as_bytes()
    };
    ($($part:expr),* $(,)?) => {
        crate::out::join(&[$(AsRef::<[u8]>::as_ref(&$part)),*])
    };
}

/// Configuration served when no `-f` is given: the stock file, compiled in.
const STOCK: Text = include_bytes!("haproxy.conf");
/// Version of this program, as shown by `-v`, the page and the metrics.
const VERSION: &str = env!("CARGO_PKG_VERSION");
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

fn main() {
    let options = Options::parse().unwrap_or_else(|word| {
        sys::print(2, cat!("haproxy: unknown or incomplete option '", word, "'\n", USAGE));
        exit(1)
    });
    let mut report = config::Report::default();
    let config = options.load(&mut report);
    let failed = !report.errors.is_empty() || options.warnings_fatal && !report.warnings.is_empty();
    if !options.quiet || failed {
        report.print(options.verbose);
    }
    if failed {
        return fail(b"config : there are errors in the configuration, nothing was started");
    }
    let listening = config.proxies.iter().any(|proxy| !proxy.disabled && !proxy.binds.is_empty());
    if !listening && options.check {
        options.tell(b"The configuration has no error, but nothing to listen on: it would not start (exit 2)\n");
        exit(2);
    }
    if !listening {
        return fail(b"config : no proxy has a 'bind' line, there is nothing to listen on");
    }
    let plan = event_loop::Plan::new(&config, options.maxconn).unwrap_or_else(fail);
    if options.check {
        options.tell(cat!("Configuration file is valid\n", plan.describe(), "\n"));
        exit(0);
    }
    if let Some(line) = plan.reduced()
        && !options.quiet
    {
        message("NOTICE", line);
    }
    let mut server = event_loop::Server::start(config, &plan, options.background).unwrap_or_else(fail);
    exit(server.run())
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
    /// Reads the arguments; the error is the word that was not understood.
    /// `-v`, `-vv` and `-h` print and end the program here.
    fn parse() -> Result<Self, Text> {
        let mut options = Self::default();
        let mut args = std::env::args_os().skip(1).map(|arg| cat!(arg.as_bytes()));
        while let Some(arg) = args.next() {
            match arg {
                b"-f" => options.files.push(args.next().ok_or(arg)?),
                b"-C" => options.directory = Some(args.next().ok_or(arg)?),
                b"-n" => {
                    let number = args.next().and_then(|word| config::number(word, 1, config::MAXCONN_MAX));
                    options.maxconn = Some(number.ok_or(arg)? as u32);
                }
                b"-c" => options.check = true,
                b"-q" => options.quiet = true,
                b"-V" | b"-d" => options.verbose = true,
                b"-db" => options.background = false,
                b"-D" => options.background = true,
                b"-dW" => options.warnings_fatal = true,
                b"--" => options.files.extend(args.by_ref()),
                b"-v" | b"-vv" | b"-h" => {
                    let version = cat!("tiny-haproxy version ", VERSION, ", for configurations of HAProxy 2.8\n");
                    sys::print(1, if arg == b"-h" { USAGE.as_bytes() } else { version });
                    sys::print(1, if arg == b"-vv" { config::support() } else { b"" });
                    exit(0)
                }
                _ => return Err(arg),
            }
        }
        Ok(options)
    }

    /// Reads and parses every file, in order, into one configuration.
    fn load(&self, report: &mut config::Report) -> config::Config {
        let mut parser = config::Parser::new(report);
        if let Some(directory) = self.directory
            && let Err(why) = std::env::set_current_dir(OsStr::from_bytes(directory))
        {
            parser.fatal(cat!("cannot change to directory '", directory, "' : ", sys::reason(&why)));
        }
        if self.files.is_empty() {
            parser.parse(b"the built-in haproxy.conf", STOCK);
        }
        for file in self.files.iter().flat_map(|name| sys::configuration_files(name)) {
            match sys::read_file(file) {
                Ok(text) => parser.parse(file, text),
                Err(why) => parser.fatal(why),
            }
        }
        parser.finish()
    }

    /// Tells the result of `-c`.
    fn tell(&self, text: Text) {
        sys::print(1, if self.quiet { b"" } else { text });
    }
}

/// Says what keeps the program from starting, and ends it.
fn fail<T>(why: Text) -> T {
    message("ALERT", why);
    exit(1)
}

/// One message in HAProxy's form: `[LEVEL]    (PID) : text`.
fn message(level: &str, text: Text) {
    let padding = &"           "[level.len() + 2..];
    sys::print(
        2,
        cat!("[", level, "]", padding, "(", itoa::Buffer::new().format(std::process::id()), ") : ", text, "\n"),
    );
}

/// Sockets, slots, buffers, timers and signals. Owns all of mio; calls
/// connection for everything that has a meaning.
mod event_loop {
    use crate::config::{Bind, Config, MAXCONN_DEFAULT};
    use crate::connection::{Connection, Next, Service};
    use crate::log::Log;
    use crate::out::{Out, Text};
    use crate::rules::Wall;
    use crate::stats::{Count, Process, Statistics};
    use crate::sys;
    use mio::net::{TcpListener, TcpStream};
    use mio::{Events, Interest, Poll, Token};
    use std::io::{ErrorKind, Read, Write};
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
    const FIXED_BYTES: u64 = 512 * 1024;
    /// Descriptors beside those of connections.
    const SPARE_FILES: u64 = 16;
    /// What of the available memory the default of `maxconn` leaves alone.
    const SHARE: u64 = 2;
    /// An answer longer than this takes more than one TCP segment, in bytes.
    const SEGMENT: usize = 1400;
    const WAKER: Token = Token(usize::MAX);

    /// Bytes that an idle connection takes, its deadline and its place among
    /// the free included.
    pub const SLOT_BYTES: usize = size_of::<Slot>() + 8 + 4 + 2 * 4;
    const _: () = assert!(SLOT_BYTES <= 384, "9,900 idle connections have to fit into 5 MiB");

    /// What will be taken at start.
    pub struct Plan {
        maxconn: u32,
        wanted: u32,
        bytes: u64,
        bufsize: usize,
        available: u64,
    }

    impl Plan {
        /// Sizes everything from `maxconn` and `tune.bufsize`.
        ///
        /// # Errors
        /// A `maxconn` that was asked for and does not fit into the memory.
        pub fn new(config: &Config, option: Option<u32>) -> Result<Self, Text> {
            let available = sys::available_memory();
            let each = 2 * config.global.bufsize as u64 + SLOT_BYTES as u64;
            let bytes = |maxconn: u32| FIXED_BYTES + u64::from(maxconn) * each;
            let asked = option.or(config.global.maxconn);
            let wanted = asked.unwrap_or(MAXCONN_DEFAULT);
            let mut plan =
                Self { maxconn: wanted, wanted, bytes: bytes(wanted), bufsize: config.global.bufsize, available };
            if plan.bytes <= available {
                return Ok(plan);
            }
            let fits = (available / SHARE).saturating_sub(FIXED_BYTES / SHARE) / each;
            if asked.is_some() || fits == 0 {
                return Err(cat!(
                    "not enough memory : ",
                    plan.describe(),
                    ", available are ",
                    kib(available),
                    " KiB; lower 'maxconn' or 'tune.bufsize'"
                ));
            }
            plan.maxconn = fits as u32;
            plan.bytes = bytes(plan.maxconn);
            Ok(plan)
        }

        /// One line for `-c`.
        pub fn describe(&self) -> Text {
            let mut number = itoa::Buffer::new();
            let maxconn = number.format(self.maxconn).to_owned();
            cat!(
                "Memory needed: ",
                kib(self.bytes),
                " KiB (maxconn ",
                maxconn,
                ", tune.bufsize ",
                number.format(self.bufsize),
                ")"
            )
        }

        /// What to say where the memory allows less than the default.
        pub fn reduced(&self) -> Option<Text> {
            let line = || {
                cat!(
                    "maxconn is ",
                    itoa::Buffer::new().format(self.maxconn),
                    " : ",
                    kib(self.available),
                    " KiB of memory are available"
                )
            };
            (self.maxconn < self.wanted).then(line)
        }
    }

    fn kib(bytes: u64) -> String {
        itoa::Buffer::new().format(bytes.div_ceil(1024)).to_owned()
    }

    /// A connection's place: its socket, its state and its two buffers.
    struct Slot {
        stream: Option<TcpStream>,
        connection: Option<Connection>,
        input: Buffer,
        output: Buffer,
        /// More may be read than was read.
        readable: bool,
        /// The kernel refused to take more.
        blocked: bool,
        /// It is asked to tell when it takes more again.
        watches_writes: bool,
        /// The connection has something to do without new input.
        again: bool,
        /// The peer sends nothing more.
        ended: bool,
        /// Close once everything is sent.
        closing: bool,
        /// Shut the sending direction once everything is sent.
        lingering: bool,
        /// The last read was short, and nothing was tried since.
        unprobed: bool,
        /// TCP_NODELAY is set.
        nodelay: bool,
        retries: u8,
    }

    impl Slot {
        const EMPTY: Self = Self {
            stream: None,
            connection: None,
            input: Buffer { number: None, start: 0, end: 0 },
            output: Buffer { number: None, start: 0, end: 0 },
            readable: false,
            blocked: false,
            watches_writes: false,
            again: false,
            ended: false,
            closing: false,
            lingering: false,
            unprobed: false,
            nodelay: false,
            retries: 0,
        };
    }

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
            let Some(number) = buffer.number else { return &[] };
            let at = number as usize * self.size;
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

    /// A listening socket and the proxy that it is for.
    struct Listener {
        socket: TcpListener,
        proxy: u16,
        /// Connections may be waiting to be accepted.
        ready: bool,
    }

    /// The listening sockets and all connections.
    pub struct Server {
        poll: Poll,
        events: Events,
        service: Service,
        listeners: Vec<Listener>,
        slots: Vec<Slot>,
        free: Vec<u32>,
        /// Deadline of each slot, beside the slots so that looking at all of
        /// them is quick.
        deadlines: Vec<u64>,
        /// No deadline is before this.
        next_deadline_ms: u64,
        buffers: Buffers,
        started: Instant,
        /// Accepting waits for a descriptor, or for memory, until then.
        accept_again_ms: u64,
        /// Some connection waits for the kernel to have memory again.
        write_again: bool,
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
        pub fn start(config: Config, plan: &Plan, background: bool) -> Result<Self, Text> {
            let config: &'static Config = Box::leak(Box::new(config));
            let failed = |what: &str, why: std::io::Error| cat!(what, " : ", sys::reason(&why));
            let mut sockets = listeners(config)?;
            if background && let Err(why) = sys::background() {
                crate::message("WARNING", failed("cannot go to the background, staying in front", why));
            }
            let poll = Poll::new().map_err(|why| failed("cannot create an epoll", why))?;
            for (at, listener) in sockets.iter_mut().enumerate() {
                let token = Token(plan.maxconn as usize + at);
                poll.registry()
                    .register(&mut listener.socket, token, Interest::READABLE)
                    .map_err(|why| failed("cannot watch a listener", why))?;
            }
            match mio::Waker::new(poll.registry(), WAKER) {
                Ok(waker) => sys::catch_signals(waker),
                Err(why) => crate::message("WARNING", failed("signals will not be handled", why)),
            }
            let count = plan.maxconn as usize;
            let files = plan.maxconn as u64 + sockets.len() as u64 + SPARE_FILES;
            let allowed = sys::allow_files(files);
            if allowed < files && plan.maxconn == plan.wanted {
                let text = cat!(
                    "only ",
                    itoa::Buffer::new().format(allowed),
                    " descriptors are allowed, fewer than 'maxconn' needs : connections beyond wait"
                );
                crate::message("WARNING", text);
            }
            let logs = config.proxies.iter().any(|proxy| !proxy.targets.is_empty());
            // every condition, of whatever line, has its ACLs here
            let rules = config.proxies.iter().any(|proxy| !proxy.rules.is_empty() || !proxy.acls.is_empty());
            let process = Process {
                started_wall: wall().seconds,
                maxconn: plan.maxconn,
                max_files: allowed,
                buffer_bytes: 2 * (count * config.global.bufsize) as u64,
                memory_kib: plan.bytes.div_ceil(1024),
                listeners: sockets.len() as u64,
                ..Process::default()
            };
            Ok(Self {
                poll,
                events: Events::with_capacity(EVENTS),
                service: Service {
                    config,
                    statistics: Statistics::new(process, config),
                    log: Log::new(logs),
                    now_ms: 0,
                    wall: wall(),
                },
                listeners: sockets,
                slots: Vec::with_capacity(count),
                free: Vec::with_capacity(count),
                deadlines: Vec::with_capacity(count),
                next_deadline_ms: u64::MAX,
                buffers: Buffers::new(2 * count, config.global.bufsize),
                started: Instant::now(),
                accept_again_ms: u64::MAX,
                write_again: false,
                probe_at_ms: 0,
                stop_at_ms: u64::MAX,
                needs_scene: logs || rules,
            })
        }

        /// Serves until a signal; returns the exit status.
        pub fn run(&mut self) -> i32 {
            loop {
                let timeout = self.timeout();
                if let Err(why) = self.poll.poll(&mut self.events, timeout)
                    && why.kind() != ErrorKind::Interrupted
                {
                    crate::message("ALERT", cat!("waiting for events failed : ", sys::reason(&why)));
                    return 1;
                }
                self.tell_time();
                match sys::take_signal() {
                    0 => {}
                    sys::SIGUSR1 => self.stop_softly(),
                    number => {
                        self.service.log.flush();
                        return 128 + number;
                    }
                }
                self.turn();
                if self.stopped() {
                    self.service.log.flush();
                    return 0;
                }
            }
        }

        fn tell_time(&mut self) {
            self.service.now_ms = self.started.elapsed().as_millis() as u64;
            if self.needs_scene {
                self.service.wall = wall();
            }
        }

        /// One turn: what is ready, what is due, who waits to be accepted.
        fn turn(&mut self) {
            let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
            let count = self.service.statistics.process.maxconn as usize;
            for event in &events {
                let at = event.token().0;
                if at < self.slots.len() {
                    let slot = &mut self.slots[at];
                    slot.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                    slot.blocked &= !(event.is_writable() || event.is_error());
                    let closed = event.is_read_closed();
                    self.drive(at, closed);
                } else if let Some(listener) = self.listeners.get_mut(at.wrapping_sub(count)) {
                    listener.ready = true;
                }
            }
            self.events = events;
            if self.service.now_ms >= self.next_deadline_ms {
                self.expire();
            }
            if self.write_again {
                self.retry_writes();
            }
            self.accept_all();
            if self.service.log.waiting() {
                self.service.log.flush();
            }
            self.service.statistics.process.dropped_logs = self.service.log.dropped;
        }

        /// How long nothing can happen but an event.
        fn timeout(&self) -> Option<Duration> {
            let full = self.free.is_empty() && self.slots.len() == self.slots.capacity();
            let open = |listener: &Listener| listener.ready && self.has_room(listener.proxy);
            if !full && self.accept_again_ms == u64::MAX && self.listeners.iter().any(open) {
                return Some(Duration::ZERO);
            }
            let now = self.service.now_ms;
            let mut wake = self.next_deadline_ms.max(now + 1).min(self.accept_again_ms).min(self.stop_at_ms);
            if self.write_again || self.service.log.waiting() || self.listeners.iter().any(|listener| listener.ready) {
                wake = wake.min(now + RETRY_MS);
            }
            (wake != u64::MAX).then(|| Duration::from_millis(wake.saturating_sub(now)))
        }

        // ---- accepting -----------------------------------------------------

        fn has_room(&self, proxy: u16) -> bool {
            let limit = self.service.config.proxies[usize::from(proxy)].maxconn;
            limit.is_none_or(|limit| self.service.statistics.proxies[usize::from(proxy)].sessions < u64::from(limit))
        }

        /// Accepts until nobody waits or no place is free. Who is not
        /// accepted waits in the listen backlog.
        fn accept_all(&mut self) {
            if self.service.now_ms < self.accept_again_ms && self.accept_again_ms != u64::MAX {
                return;
            }
            self.accept_again_ms = u64::MAX;
            for at in 0..self.listeners.len() {
                for _ in 0..ACCEPTS {
                    let proxy = self.listeners[at].proxy;
                    if !self.listeners[at].ready {
                        break;
                    }
                    if !self.place_free() || !self.has_room(proxy) {
                        self.service.statistics.process.waits += 1;
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
                                self.service.statistics.process.waits += 1;
                                self.accept_again_ms = self.service.now_ms + RETRY_MS;
                                self.probe_idle();
                                return;
                            }
                        },
                    }
                }
            }
        }

        fn place_free(&self) -> bool {
            !self.free.is_empty() || self.slots.len() < self.slots.capacity()
        }

        fn open(&mut self, mut stream: TcpStream, peer: SocketAddr, proxy: u16) {
            let at = match self.free.pop() {
                Some(at) => at as usize,
                None => {
                    self.slots.push(Slot::EMPTY);
                    self.deadlines.push(u64::MAX);
                    self.slots.len() - 1
                }
            };
            let registry = self.poll.registry();
            if registry.register(&mut stream, Token(at), Interest::READABLE).is_err() {
                self.free.push(at as u32);
                return;
            }
            let local = if self.needs_scene { stream.local_addr().unwrap_or(peer) } else { peer };
            let connection = Connection::open(proxy, peer, local, &mut self.service);
            let http = self.service.config.proxies[usize::from(proxy)].http;
            self.slots[at] = Slot { stream: Some(stream), connection: Some(connection), ..Slot::EMPTY };
            match http {
                true => self.set_deadline(at),
                // no backend: in mode tcp, nobody is there to talk to
                false => self.close(at),
            }
        }

        /// Where a short read left a close unseen (on Unikraft no event tells
        /// of it), the connection holds a place that others wait for: looks.
        fn probe_idle(&mut self) {
            if self.service.now_ms < self.probe_at_ms {
                return;
            }
            self.probe_at_ms = self.service.now_ms + RETRY_MS;
            for at in 0..self.slots.len() {
                if self.slots[at].unprobed {
                    self.slots[at].readable = true;
                    self.drive(at, false);
                }
            }
        }

        // ---- one connection ------------------------------------------------

        /// Sends, advances and reads until the socket or the connection has
        /// nothing more to do. `hung_up`: the kernel said that the peer sends
        /// nothing more, so a short read is not the last one.
        fn drive(&mut self, at: usize, hung_up: bool) {
            loop {
                match self.send(at) {
                    Io::Done => {}
                    Io::Blocked => break,
                    Io::Failed => return self.close(at),
                }
                let slot = &self.slots[at];
                let next = match () {
                    () if slot.closing => Next::Close,
                    () if slot.again || slot.ended || !slot.input.is_empty() => self.advance(at),
                    () => Next::Read,
                };
                match (next, self.send(at)) {
                    (_, Io::Failed) => return self.close(at),
                    (Next::Close, Io::Blocked) => {
                        self.slots[at].closing = true;
                        break;
                    }
                    (Next::Linger, Io::Blocked) => {
                        self.slots[at].lingering = true;
                        break;
                    }
                    (_, Io::Blocked) | (Next::Wait, _) => break,
                    (Next::Close, Io::Done) => return self.close(at),
                    (Next::Write, Io::Done) => continue,
                    (Next::Linger, Io::Done) => self.shut(at),
                    (Next::Read, Io::Done) => {}
                }
                match self.receive(at, hung_up) {
                    Io::Done => {}
                    Io::Blocked => break,
                    Io::Failed => return self.close(at),
                }
            }
            let slot = &mut self.slots[at];
            if slot.input.is_empty() {
                self.buffers.give_back(&mut slot.input);
            }
            self.set_deadline(at);
        }

        /// Has the connection look at its input. Input that is used up and
        /// an output without a byte give their buffers back.
        fn advance(&mut self, at: usize) -> Next {
            let slot = &mut self.slots[at];
            let Some(connection) = &mut slot.connection else { return Next::Close };
            self.service.statistics.process.buffers_in_use = self.buffers.in_use();
            let (input, output) = self.buffers.pair(&slot.input, &mut slot.output);
            let mut out = Out::new(output, 0);
            let (used, next) = connection.advance(&mut self.service, input, slot.ended, &mut out);
            slot.again = matches!(next, Next::Write | Next::Wait);
            slot.output.end = out.len() as u32;
            slot.input.start += used as u32;
            debug_assert!(slot.input.start <= slot.input.end);
            if slot.input.is_empty() {
                slot.input.start = 0;
                slot.input.end = 0;
            }
            if slot.output.is_empty() {
                self.buffers.give_back(&mut slot.output);
            }
            next
        }

        /// Reads once. A short read means that there is no more for now.
        fn receive(&mut self, at: usize, hung_up: bool) -> Io {
            let slot = &mut self.slots[at];
            let Some(stream) = slot.stream.as_mut().filter(|_| slot.readable && !slot.ended) else {
                return Io::Blocked;
            };
            let bytes = self.buffers.of(&mut slot.input);
            if slot.input.start > 0 {
                bytes.copy_within(slot.input.start as usize..slot.input.end as usize, 0);
                slot.input.end -= slot.input.start;
                slot.input.start = 0;
            }
            let room = &mut bytes[slot.input.end as usize..];
            if room.is_empty() {
                // a request that fills the buffer has been answered: see head_limit
                return Io::Failed;
            }
            match stream.read(room) {
                Ok(0) => slot.ended = true,
                Ok(count) => {
                    slot.readable = count == room.len() || hung_up;
                    slot.unprobed = !slot.readable;
                    slot.input.end += count as u32;
                    let proxy = usize::from(slot.connection.as_ref().map_or(0, |connection| connection.proxy));
                    self.service.statistics.proxies[proxy].add(Count::WireIn, count as u64);
                }
                Err(why) => match why.kind() {
                    ErrorKind::WouldBlock => {
                        slot.readable = false;
                        slot.unprobed = false;
                        return Io::Blocked;
                    }
                    ErrorKind::Interrupted => {}
                    _ => return Io::Failed,
                },
            }
            Io::Done
        }

        /// Writes what is there to write. Done means that all of it is gone.
        fn send(&mut self, at: usize) -> Io {
            let slot = &mut self.slots[at];
            let Some(stream) = &mut slot.stream else { return Io::Blocked };
            while !slot.output.is_empty() {
                if slot.blocked {
                    return Io::Blocked;
                }
                let bytes = self.buffers.used(&slot.output);
                let again = slot.connection.as_ref().is_some_and(|connection| connection.requests > 1);
                if !slot.nodelay && !slot.closing && (again || bytes.len() > SEGMENT) {
                    // the last part of an answer shall not wait for an acknowledgement
                    slot.nodelay = true;
                    let _ = stream.set_nodelay(true);
                }
                match stream.write(bytes) {
                    Ok(count) => {
                        slot.output.start += count as u32;
                        slot.retries = 0;
                    }
                    Err(why) => match why.kind() {
                        ErrorKind::Interrupted => {}
                        ErrorKind::WouldBlock => {
                            slot.blocked = true;
                            if !slot.watches_writes {
                                slot.watches_writes = true;
                                let both = Interest::READABLE | Interest::WRITABLE;
                                if self.poll.registry().reregister(stream, Token(at), both).is_err() {
                                    return Io::Failed;
                                }
                            }
                            return Io::Blocked;
                        }
                        // ENOMEM and ENOBUFS: a small guest has memory again soon
                        _ if matches!(why.raw_os_error(), Some(12 | 105)) && slot.retries < MAX_RETRIES => {
                            slot.retries += 1;
                            self.write_again = true;
                            return Io::Blocked;
                        }
                        _ => return Io::Failed,
                    },
                }
            }
            self.buffers.give_back(&mut slot.output);
            if slot.lingering {
                self.shut(at);
            }
            Io::Done
        }

        /// Tells the peer that nothing more will be sent.
        fn shut(&mut self, at: usize) {
            self.slots[at].lingering = false;
            if let Some(stream) = &self.slots[at].stream {
                let _ = stream.shutdown(Shutdown::Write);
            }
        }

        fn close(&mut self, at: usize) {
            let mut slot = std::mem::replace(&mut self.slots[at], Slot::EMPTY);
            if let Some(connection) = &mut slot.connection {
                connection.closed(&mut self.service);
            }
            self.buffers.give_back(&mut slot.input);
            self.buffers.give_back(&mut slot.output);
            self.deadlines[at] = u64::MAX;
            debug_assert!(self.free.len() < self.free.capacity());
            self.free.push(at as u32);
            // the place, or the descriptor, may be what accepting waits for
            self.accept_again_ms = self.accept_again_ms.min(self.service.now_ms);
        }

        // ---- timers --------------------------------------------------------

        fn set_deadline(&mut self, at: usize) {
            let slot = &self.slots[at];
            let Some(connection) = &slot.connection else { return };
            let input = self.buffers.used(&slot.input);
            let deadline = connection.deadline(&self.service, input, !slot.output.is_empty());
            self.deadlines[at] = deadline;
            self.next_deadline_ms = self.next_deadline_ms.min(deadline);
        }

        /// Ends the waits that are over.
        fn expire(&mut self) {
            let now = self.service.now_ms;
            self.next_deadline_ms = u64::MAX;
            for at in 0..self.deadlines.len() {
                if self.deadlines[at] <= now {
                    self.deadlines[at] = u64::MAX;
                    self.expire_one(at);
                }
                self.next_deadline_ms = self.next_deadline_ms.min(self.deadlines[at]);
            }
            self.next_deadline_ms = self.next_deadline_ms.max(now + TICK_MS);
        }

        fn expire_one(&mut self, at: usize) {
            let slot = &mut self.slots[at];
            let Some(connection) = &mut slot.connection else { return };
            let sending = !slot.output.is_empty();
            let next = if sending {
                Some(Next::Close)
            } else {
                let (input, output) = self.buffers.pair(&slot.input, &mut slot.output);
                let mut out = Out::new(output, 0);
                let next = connection.expired(&mut self.service, input, &mut out);
                slot.output.end = out.len() as u32;
                next
            };
            match next {
                Some(Next::Close) => return self.close(at),
                Some(_) => slot.lingering = true,
                None => {}
            }
            self.drive(at, false);
        }

        fn retry_writes(&mut self) {
            self.write_again = false;
            for at in 0..self.slots.len() {
                if self.slots[at].retries > 0 {
                    self.drive(at, false);
                }
            }
        }

        // ---- the end -------------------------------------------------------

        /// Stops accepting, closes idle connections; the others are finished.
        fn stop_softly(&mut self) {
            for listener in &mut self.listeners {
                let _ = self.poll.registry().deregister(&mut listener.socket);
            }
            self.listeners.clear();
            let service = &mut self.service;
            service.statistics.process.stopping = true;
            service.statistics.process.listeners = 0;
            if let Some(ms) = service.config.global.hard_stop {
                self.stop_at_ms = service.now_ms + u64::from(ms);
            }
            for at in 0..self.slots.len() {
                let slot = &self.slots[at];
                let idle =
                    slot.connection.as_ref().is_some_and(|connection| connection.idle(self.buffers.used(&slot.input)));
                if idle {
                    self.close(at);
                }
            }
        }

        fn stopped(&self) -> bool {
            let process = &self.service.statistics.process;
            process.stopping && (process.connections == 0 || self.service.now_ms >= self.stop_at_ms)
        }
    }

    /// How a read or a write went.
    enum Io {
        Done,
        Blocked,
        Failed,
    }

    fn wall() -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall { seconds: since.as_secs(), millis: since.subsec_millis() }
    }

    /// Opens every listening socket of the configuration.
    fn listeners(config: &Config) -> Result<Vec<Listener>, Text> {
        let mut sockets = Vec::new();
        for (at, proxy) in config.proxies.iter().enumerate().filter(|(_, proxy)| !proxy.disabled) {
            for bind in &proxy.binds {
                let socket = listen(bind).map_err(|why| {
                    let shown = match bind {
                        Bind::Address(_, shown) => shown,
                        Bind::Descriptor(number) => cat!("fd@", itoa::Buffer::new().format(*number)),
                    };
                    cat!("starting proxy ", proxy.name, " : cannot listen on [", shown, "] : ", sys::reason(&why))
                })?;
                sockets.push(Listener { socket, proxy: at as u16, ready: true });
            }
        }
        Ok(sockets)
    }

    /// Opens one listening socket.
    fn listen(bind: &Bind) -> std::io::Result<TcpListener> {
        match bind {
            Bind::Address(address, _) => TcpListener::bind(*address),
            Bind::Descriptor(number) => {
                let socket = sys::inherited(*number);
                socket.set_nonblocking(true)?;
                Ok(TcpListener::from_std(socket))
            }
        }
    }
}

/// One connection as a state machine over byte slices: which bytes are a
/// request, which rule answers it, what is counted and logged. Owns no socket
/// and no buffer; calls stats, config, rules, http and log.
mod connection {
    use crate::config::{self, Config, Proxy, Stats};
    use crate::http::{self, BodyReader, Parsed, Request};
    use crate::log::Log;
    use crate::out::Out;
    use crate::rules::{self, Action, Outcome, Persistence, Reply, Scene, Wall};
    use crate::stats::{Count, Counters, Page, Statistics, View};
    use std::net::SocketAddr;

    /// How long an answered connection may go on sending before it is closed,
    /// in milliseconds: closing earlier could reset it and lose the answer.
    const LINGER_MS: u64 = 2000;
    /// Room for the head of a page, for the size line of a chunk, and for what
    /// ends a chunk and a chunked body, in bytes.
    const PAGE_HEAD: usize = 256;
    const CHUNK_SIZE: usize = 18;
    const CHUNK_END: usize = 2 + 5;
    /// SETTINGS, then GOAWAY with HTTP_1_1_REQUIRED (RFC 9113 §6.8, §7).
    const HTTP2_REFUSAL: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0d";

    /// What all connections share.
    pub struct Service {
        pub config: &'static Config,
        pub statistics: Statistics,
        pub log: Log,
        /// Milliseconds since the start, read once per turn of the loop.
        pub now_ms: u64,
        pub wall: Wall,
    }

    impl Service {
        fn view(&self) -> View<'_> {
            View { config: self.config, statistics: &self.statistics, now_ms: self.now_ms }
        }
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
        pub proxy: u16,
        pub peer: SocketAddr,
        pub local: SocketAddr,
        /// Requests answered.
        pub requests: u32,
        /// When the wait for the current request began.
        since_ms: u64,
        /// When its first byte came.
        started: Wall,
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
        /// A page that did not fit into one buffer, and how it is sent.
        page: Option<(Page, Framing)>,
    }

    #[derive(Clone, Copy)]
    struct Framing {
        chunked: bool,
        keep: bool,
        given: Given,
        /// Bytes sent so far.
        bytes: u64,
    }

    /// What is known of an answer beside its bytes.
    #[derive(Clone, Copy)]
    struct Given {
        /// 0 where there was no answer.
        status: u16,
        /// Termination state, as the log tells it.
        flags: &'static str,
        server: &'static str,
    }

    fn given(status: u16, flags: &'static str) -> Given {
        Given { status, flags, server: "<NOSRV>" }
    }

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

    /// Why a request is not settled now.
    struct Pending(Next);
    type Settled = Result<(), Pending>;

    impl Connection {
        /// A connection that was just accepted.
        pub fn open(proxy: u16, peer: SocketAddr, local: SocketAddr, service: &mut Service) -> Self {
            let (now_ms, started) = (service.now_ms, service.wall);
            let process = &mut service.statistics.process;
            process.connections += 1;
            process.connections_total += 1;
            process.connections_max = process.connections_max.max(process.connections);
            process.connection_rate.add(now_ms, 1);
            let connection = Self {
                proxy,
                peer,
                local,
                requests: 0,
                since_ms: now_ms,
                started,
                seen: 0,
                counted: false,
                continued: false,
                tarpit_until_ms: 0,
                draining: false,
                page: None,
            };
            let config = connection.config(service);
            let counters = connection.counters(service);
            counters.connected(now_ms);
            counters.add(if config.http { Count::H1Sessions } else { Count::OtherSessions }, 1);
            if !config.http || config.logs_connections {
                connection.log(service, None, given(0, "SC--"), 0);
            }
            connection
        }

        /// Takes the connection out of the counters. A request that is still
        /// in hand ends without an answer, or with a part of one.
        pub fn closed(&mut self, service: &mut Service) {
            if let Some((_, framing)) = self.page.take() {
                self.finish(service, None, Given { flags: "CD--", ..framing.given }, framing.bytes);
            } else if self.counted {
                self.finish(service, None, given(0, "CR--"), 0);
            }
            self.counters(service).sessions -= 1;
            service.statistics.process.connections -= 1;
        }

        fn config(&self, service: &Service) -> &'static Proxy {
            &service.config.proxies[usize::from(self.proxy)]
        }

        fn counters<'s>(&self, service: &'s mut Service) -> &'s mut Counters {
            &mut service.statistics.proxies[usize::from(self.proxy)]
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
                if self.page.is_some() {
                    match self.go_on_with_page(service, out) {
                        Next::Read => {}
                        next => return (used, next),
                    }
                }
                used += http::blank_lines(&input[used..]);
                let (taken, next) = self.head(service, &input[used..], end, out);
                used += taken;
                match next {
                    Next::Read if self.page.is_some() => return (used, Next::Write),
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
                if end && self.requests == 0 && !self.config(service).has(config::DONTLOGNULL) {
                    self.log(service, None, given(400, "CR--"), 0);
                }
                return (0, Next::Read);
            }
            let limit = service.config.head_limit();
            let seen = (self.seen as usize).min(input.len());
            if seen == 0 && !self.counted {
                self.started = service.wall;
                if self.requests > 0 {
                    self.since_ms = service.now_ms;
                }
            }
            if seen > 0 && !end && input.len() < limit && !input[seen..].contains(&b'\n') {
                self.seen = input.len() as u32;
                return (0, Next::Read);
            }
            let mut slots = [http::EMPTY_HEADER; http::FEW_HEADERS];
            match http::parse(input, &mut slots) {
                Parsed::Crowded => {
                    let mut slots = [http::EMPTY_HEADER; http::MAX_HEADERS];
                    let parsed = http::parse(input, &mut slots);
                    self.parsed(service, parsed, input, end, out)
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
            let limit = service.config.head_limit();
            match parsed {
                Parsed::Head(request) if request.length <= limit => self.request(service, &request, input, end, out),
                Parsed::Partial if input.len() < limit && !end => {
                    self.seen = input.len() as u32;
                    (0, Next::Read)
                }
                Parsed::Partial if end => self.bad(service, 400, "CR--", out),
                Parsed::Partial | Parsed::Head(_) | Parsed::Crowded => self.bad(service, 400, "PR--", out),
                Parsed::Bad(status) => self.bad(service, status, "PR--", out),
                Parsed::Http2 => {
                    out.put(HTTP2_REFUSAL);
                    self.refuse(service, 505, "PR--", HTTP2_REFUSAL.len() as u64)
                }
            }
        }

        /// A whole head: finds out about its body, then who answers.
        fn request(
            &mut self,
            service: &mut Service,
            request: &Request,
            input: &[u8],
            end: bool,
            out: &mut Out,
        ) -> (usize, Next) {
            let Ok((body, whole)) = BodyReader::new(request.framing).take(&input[request.length..]) else {
                return self.bad(service, 400, "PR--", out);
            };
            self.count(service, Count::H1Requests);
            let closes = self.config(service).has(config::HTTP_CLOSE) || service.statistics.process.stopping;
            let persistence = match request.keep_alive && whole && !closes {
                false => Persistence::Close,
                true if request.tell_keep_alive => Persistence::KeepTold,
                true => Persistence::Keep,
            };
            let ask = Ask { request, persistence, whole, full: input.len() == service.config.global.bufsize, end };
            if let Err(Pending(next)) = self.answer(service, &ask, out) {
                return (0, next);
            }
            let taken = request.length + body;
            if persistence != Persistence::Close || self.page.is_some() {
                return (taken, Next::Read);
            }
            // what may still come after a last answer must not reset it
            let quiet = whole && taken == input.len();
            (taken, if quiet { Next::Close } else { self.linger(service) })
        }

        fn linger(&mut self, service: &Service) -> Next {
            self.draining = true;
            self.since_ms = service.now_ms;
            Next::Linger
        }

        /// Decides who answers, in HAProxy's order: monitor-uri, http-request
        /// rules, stats, and 503 for the rest.
        fn answer(&mut self, service: &mut Service, ask: &Ask, out: &mut Out) -> Settled {
            let config = self.config(service);
            let scene = self.scene(service, Some(ask.request), Outcome::default());
            if config.monitor_uri == Some(ask.request.target) {
                let failed = config.monitor_fail.iter().any(|condition| condition.holds(&config.acls, &scene));
                let status = if failed { 503 } else { 200 };
                return self.give(service, ask, config.reply(status), given(status, ""), out);
            }
            let rule = config.rules.iter().find(|rule| rule.holds(&config.acls, &scene));
            if let Some(rule) = rule.filter(|rule| !matches!(rule.action, Action::Allow)) {
                return self.act(service, ask, &rule.action, "<NOSRV>", out);
            }
            if let Some(stats) = &config.stats
                && matches!(ask.request.method, b"GET" | b"HEAD" | b"POST")
                && let Some(options) = ask.request.local().strip_prefix(stats.uri)
            {
                return self.stats(service, ask, stats, options, out);
            }
            self.give(service, ask, config.reply(503), given(503, "SC--"), out)?;
            let now_ms = service.now_ms;
            let counters = self.counters(service);
            counters.add(Count::NoServer, 1);
            counters.backend_rate.add(now_ms, 1);
            counters.backend_last_ms = Some(now_ms);
            Ok(())
        }

        /// Carries out what a rule says.
        fn act(
            &mut self,
            service: &mut Service,
            ask: &Ask,
            action: &'static Action,
            server: &'static str,
            out: &mut Out,
        ) -> Settled {
            let config = self.config(service);
            match action {
                Action::Allow => Ok(()),
                Action::Return(reply) => {
                    self.intercept(service, ask, reply, Given { server, ..given(reply.status, "LR--") }, out)
                }
                Action::Deny(reply) => self.deny(service, ask, reply, out),
                Action::Tarpit(reply) => {
                    if self.tarpit_until_ms == 0 {
                        let wait = config.timeouts[config::TARPIT].or(config.timeouts[config::CLIENT]);
                        self.tarpit_until_ms = service.now_ms + u64::from(wait.unwrap_or(0));
                    }
                    match service.now_ms < self.tarpit_until_ms {
                        true => Err(Pending(Next::Wait)),
                        false => self.deny(service, ask, reply, out),
                    }
                }
                Action::Reject => {
                    self.counters(service).add(Count::Denied, 1);
                    self.finish(service, Some(ask.request), given(0, "PR--"), 0);
                    Err(Pending(Next::Close))
                }
                Action::Metrics => match Page::metrics(self.proxy, ask.request.query()) {
                    Some(page) => self.give_page(service, ask, page, "<PROMEX>", out),
                    None => {
                        let given = Given { server: "<PROMEX>", ..given(400, "LR--") };
                        self.intercept(service, ask, config.reply(400), given, out)
                    }
                },
            }
        }

        /// The statistics, for who may see them.
        fn stats(
            &mut self,
            service: &mut Service,
            ask: &Ask,
            stats: &'static Stats,
            options: &[u8],
            out: &mut Out,
        ) -> Settled {
            let config = self.config(service);
            let scene = self.scene(service, Some(ask.request), Outcome::default());
            let rule = stats.rules.iter().enumerate().find(|(_, rule)| rule.holds(&config.acls, &scene));
            if let Some((at, rule)) = rule {
                // the last rule stands for the `stats auth` lines, if there are any
                let challenge = at + 1 == stats.rules.len() && !stats.users.is_empty();
                let known = challenge && rules::authenticated(ask.request, &stats.users);
                if !known && !matches!(rule.action, Action::Allow) {
                    return self.act(service, ask, &rule.action, "<STATS>", out);
                }
            }
            if ask.request.method != b"POST" {
                return self.give_page(service, ask, Page::stats(self.proxy, options), "<STATS>", out);
            }
            // the page is read-only: a POST is sent back to it, after its body
            if ask.whole || ask.full {
                let reply = &stats.sent_back[usize::from(!ask.whole)];
                return self.intercept(service, ask, reply, Given { server: "<STATS>", ..given(303, "LR--") }, out);
            }
            if ask.end {
                return Err(Pending(self.bad(service, 400, "CR--", out).1));
            }
            if ask.request.expects_continue && !self.continued {
                out.put("HTTP/1.1 100 Continue\r\n\r\n");
                self.continued = true;
            }
            Err(Pending(Next::Read))
        }

        fn deny(&mut self, service: &mut Service, ask: &Ask, reply: &Reply, out: &mut Out) -> Settled {
            self.give(service, ask, reply, given(reply.status, "PR--"), out)?;
            self.counters(service).add(Count::Denied, 1);
            Ok(())
        }

        /// An answer of a rule or a service counts as intercepted.
        fn intercept(
            &mut self,
            service: &mut Service,
            ask: &Ask,
            reply: &Reply,
            given: Given,
            out: &mut Out,
        ) -> Settled {
            self.give(service, ask, reply, given, out)?;
            self.counters(service).add(Count::Intercepted, 1);
            Ok(())
        }

        /// Writes a reply and settles the accounts of its request.
        fn give(
            &mut self,
            service: &mut Service,
            ask: &Ask,
            reply: &Reply,
            mut given: Given,
            out: &mut Out,
        ) -> Settled {
            let mark = out.len();
            let outcome = Outcome { status: reply.status.into(), ..self.outcome(service, given, 0) };
            let scene = self.scene(service, Some(ask.request), outcome);
            reply.write(&scene, ask.request.is_head(), ask.persistence, out);
            if out.full {
                out.truncate(mark);
                if mark > 0 {
                    return Err(Pending(Next::Write));
                }
                // a format string that grew beyond a buffer
                self.counters(service).add(Count::InternalErrors, 1);
                given.status = 500;
                self.config(service).reply(500).write(&scene, ask.request.is_head(), ask.persistence, out);
            }
            self.finish(service, Some(ask.request), given, (out.len() - mark) as u64);
            Ok(())
        }

        /// Writes a page, whole with its length if one buffer holds it, else
        /// its first part; [`Self::go_on_with_page`] writes the others.
        fn give_page(
            &mut self,
            service: &mut Service,
            ask: &Ask,
            mut page: Page,
            server: &'static str,
            out: &mut Out,
        ) -> Settled {
            let mark = out.len();
            if mark > 0 && out.room() < 2 * PAGE_HEAD {
                return Err(Pending(Next::Write));
            }
            // the page shows its own request, as intercepted
            self.counters(service).add(Count::Intercepted, 1);
            out.gap(PAGE_HEAD);
            out.keep_free(CHUNK_END);
            let complete = page.write(&service.view(), out);
            out.keep_free(0);
            if !complete && mark > 0 {
                out.truncate(mark);
                self.counters(service).take_back(Count::Intercepted);
                return Err(Pending(Next::Write));
            }
            let body = out.len() - mark - PAGE_HEAD;
            let chunked = !complete && ask.request.version != b"HTTP/1.0";
            let keep = ask.persistence != Persistence::Close && (complete || chunked);
            let mut head = [0; PAGE_HEAD];
            let mut fields = Out::new(&mut head, 0);
            page.fields(service.config, &mut fields);
            if complete {
                fields.put("content-length: ").num(body).put("\r\n");
            } else if chunked {
                fields.put("transfer-encoding: chunked\r\n");
            }
            fields.put(if keep { ask.persistence } else { Persistence::Close }.field()).put("\r\n");
            if ask.request.is_head() {
                out.truncate(mark + PAGE_HEAD);
            } else if chunked {
                fields.hex(body);
                fields.put("\r\n");
                out.put("\r\n");
            }
            out.fill_gap(mark, PAGE_HEAD, fields.written());
            let given = Given { server, ..given(200, "LR--") };
            let bytes = (out.len() - mark) as u64;
            if complete || ask.request.is_head() {
                self.finish(service, Some(ask.request), given, bytes);
            } else {
                self.page = Some((page, Framing { chunked, keep, given, bytes }));
            }
            Ok(())
        }

        /// Writes the next part of a long page once the one before is sent.
        fn go_on_with_page(&mut self, service: &mut Service, out: &mut Out) -> Next {
            if out.len() > 0 {
                return Next::Write;
            }
            let Some((mut page, mut framing)) = self.page.take() else { return Next::Read };
            out.gap(CHUNK_SIZE);
            out.keep_free(CHUNK_END);
            let complete = page.write(&service.view(), out);
            out.keep_free(0);
            let body = out.len() - CHUNK_SIZE;
            let mut size = [0; CHUNK_SIZE];
            let mut line = Out::new(&mut size, 0);
            if framing.chunked && body > 0 {
                line.hex(body);
                line.put("\r\n");
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
            self.finish(service, None, framing.given, framing.bytes);
            if framing.keep { Next::Read } else { Next::Close }
        }

        /// Answers what is no request, and closes.
        fn bad(&mut self, service: &mut Service, status: u16, flags: &'static str, out: &mut Out) -> (usize, Next) {
            let mark = out.len();
            let scene = self.scene(service, None, Outcome::default());
            self.config(service).reply(status).write(&scene, false, Persistence::Close, out);
            if out.full {
                out.truncate(mark);
                return (0, Next::Write);
            }
            self.refuse(service, status, flags, (out.len() - mark) as u64)
        }

        /// Counts and logs what was no request; the connection ends here.
        fn refuse(&mut self, service: &mut Service, status: u16, flags: &'static str, bytes: u64) -> (usize, Next) {
            self.count(service, Count::OtherRequests);
            self.counters(service).add(Count::BadRequests, 1);
            self.finish(service, None, given(status, flags), bytes);
            (0, self.linger(service))
        }

        // ---- timers --------------------------------------------------------

        /// The deadline has come. None means to go on with [`Self::advance`].
        pub fn expired(&mut self, service: &mut Service, input: &[u8], out: &mut Out) -> Option<Next> {
            if self.tarpit_until_ms > 0 {
                return None;
            }
            let silent = self.requests > 0 || self.config(service).has(config::IGNORE_PROBES);
            if self.draining || self.page.is_some() || input.is_empty() && silent {
                return Some(Next::Close);
            }
            Some(self.bad(service, 408, "cR--", out).1)
        }

        /// When the wait that goes on now ends, in milliseconds since the
        /// start; `u64::MAX` for never.
        pub fn deadline(&self, service: &Service, input: &[u8], sending: bool) -> u64 {
            let [client, request, keep_alive, _] = self.config(service).timeouts;
            let from = |start: u64, timeout: Option<u32>| timeout.map_or(u64::MAX, |ms| start + u64::from(ms));
            match () {
                () if sending || self.page.is_some() => from(service.now_ms, client),
                () if self.draining => self.since_ms + LINGER_MS,
                () if self.tarpit_until_ms > 0 => self.tarpit_until_ms,
                () if input.is_empty() && self.requests > 0 => from(self.since_ms, keep_alive.or(request).or(client)),
                () if request.is_some() => from(self.since_ms, request),
                () => from(service.now_ms, client),
            }
        }

        // ---- accounts ------------------------------------------------------

        /// One request more in hand.
        fn count(&mut self, service: &mut Service, kind: Count) {
            if !self.counted {
                self.counted = true;
                let now_ms = service.now_ms;
                let counters = self.counters(service);
                counters.add(kind, 1);
                counters.request_rate.add(now_ms, 1);
                service.statistics.process.requests_total += 1;
            }
        }

        /// One request less in hand: counts and logs how it ended.
        fn finish(&mut self, service: &mut Service, request: Option<&Request>, given: Given, bytes: u64) {
            let counters = self.counters(service);
            counters.answered[usize::from(given.status / 100) % 6] += 1;
            counters.add(Count::BytesIn, request.map_or(0, |request| request.length as u64));
            counters.add(Count::BytesOut, bytes);
            service.statistics.process.bytes_out += bytes;
            service.statistics.process.bytes_rate.add(service.now_ms, bytes);
            if !given.flags.is_empty() && !self.config(service).logs_connections {
                self.log(service, request, given, bytes);
            }
            self.counted = false;
            self.continued = false;
            self.tarpit_until_ms = 0;
            self.seen = 0;
            self.requests += 1;
            self.since_ms = service.now_ms;
        }

        fn outcome(&self, service: &Service, given: Given, bytes_out: u64) -> Outcome {
            let served = given.server != "<NOSRV>";
            let total_ms = (service.now_ms - self.since_ms) as i64;
            Outcome {
                status: if given.status == 0 { -1 } else { given.status.into() },
                bytes_in: 0,
                bytes_out,
                flags: given.flags,
                server: given.server,
                request_ms: if given.flags == "LR--" { total_ms } else { -1 },
                server_ms: if served { 0 } else { -1 },
                total_ms,
            }
        }

        fn log(&self, service: &mut Service, request: Option<&Request>, given: Given, bytes: u64) {
            let config = self.config(service);
            let normal = given.flags == "LR--" && given.status < 500;
            if config.targets.is_empty() || normal && config.has(config::DONTLOG_NORMAL) {
                return;
            }
            let bytes_in = request.map_or(0, |request| request.length as u64);
            let scene = self.scene(service, request, Outcome { bytes_in, ..self.outcome(service, given, bytes) });
            for target in config.targets.iter().filter(|target| target.wanted) {
                service.log.line(target, |out| config.format.write(&scene, out));
            }
        }

        fn scene<'a>(&self, service: &Service, request: Option<&'a Request<'a, 'a>>, outcome: Outcome) -> Scene<'a> {
            let config: &'static Config = service.config;
            let at = usize::from(self.proxy);
            Scene {
                request,
                frontend: config.proxies[at].name,
                peer: self.peer,
                local: self.local,
                started: self.started,
                outcome,
                connections: (service.statistics.process.connections, service.statistics.proxies[at].sessions),
                requests: service.statistics.process.requests_total,
                userlists: &config.userlists,
                node: config.global.node,
            }
        }
    }
}

/// Counters, the table of columns, and every format of the statistics.
/// Owns the numbers; reads config; writes with out.
mod stats {
    use self::Count::*;
    use crate::config::{Bind, Config, Kind as ProxyKind, Proxy, Stats};
    use crate::http;
    use crate::out::{Out, Text};

    /// Most characters of `scope=` that are looked at.
    const MAX_SCOPE: usize = 20;

    /// What is counted, one after the other.
    #[derive(Clone, Copy)]
    pub enum Count {
        BytesIn,
        BytesOut,
        WireIn,
        WireOut,
        Connections,
        Denied,
        BadRequests,
        NoServer,
        Intercepted,
        InternalErrors,
        H1Sessions,
        OtherSessions,
        H1Requests,
        OtherRequests,
    }
    const COUNTS: usize = OtherRequests as usize + 1;

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
    #[derive(Clone, Default)]
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

        fn requests(&self) -> u64 {
            self.counts[H1Requests as usize] + self.counts[OtherRequests as usize]
        }

        pub fn connected(&mut self, now_ms: u64) {
            self.add(Connections, 1);
            self.sessions += 1;
            self.sessions_max = self.sessions_max.max(self.sessions);
            self.connection_rate.add(now_ms, 1);
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
        pub buffer_bytes: u64,
        pub buffers_in_use: u64,
        pub memory_kib: u64,
        pub listeners: u64,
        pub stopping: bool,
        pub dropped_logs: u64,
        /// Times that accepting had to wait for a place.
        pub waits: u64,
    }

    pub struct Statistics {
        pub process: Process,
        pub proxies: Vec<Counters>,
        templates: Templates,
    }

    impl Statistics {
        pub fn new(process: Process, config: &Config) -> Self {
            let proxies = vec![Counters::default(); config.proxies.len()];
            let mut statistics = Self { process, proxies, templates: Templates::default() };
            statistics.templates = Templates::new(&View { config, statistics: &statistics, now_ms: 0 });
            statistics
        }
    }

    /// What stands in a column.
    enum Cell {
        Absent,
        Dash,
        Zero,
        Words(fn(&Row) -> Text),
        Number(fn(&Row) -> u64),
        /// Seconds since the backend side was last used.
        LastSession,
    }
    use Cell::{Absent, Dash, LastSession, Number, Words, Zero};

    /// Names, more than one separated by `|`; tags (origin, nature, scope) for
    /// a frontend and for a backend, empty where it does not fill the column;
    /// what stands there; name of the frontend's metric.
    type Column = (&'static str, &'static str, &'static str, Cell, &'static str);

    #[rustfmt::skip]
    const COLUMNS: &[Column] = &[
        ("pxname", "KNS", "KNS", Words(|r| r.proxy.name), ""),
        ("svname", "KNS", "KNS", Words(|r| if r.backend { &b"BACKEND"[..] } else { b"FRONTEND" }), ""),
        ("qcur", "", "MGP", Zero, ""),
        ("qmax", "", "MMP", Zero, ""),
        ("scur", "MGP", "MGP", Number(|r| r.front(r.numbers.sessions)), "current_sessions"),
        ("smax", "MMP", "MMP", Number(|r| r.side(r.numbers.sessions_max, r.count(NoServer).min(1))), "max_sessions"),
        ("slim", "CLP", "CLP", Number(|r| r.side(r.limit(), r.limit().div_ceil(10))), "limit_sessions"),
        ("stot", "MCP", "MCP", Number(|r| r.side(r.count(Connections), r.count(NoServer))), "sessions_total"),
        ("bin", "MCP", "MCP", Number(|r| r.count(BytesIn)), "bytes_in_total"),
        ("bout", "MCP", "MCP", Number(|r| r.count(BytesOut)), "bytes_out_total"),
        ("dreq", "MCP", "MCP", Number(|r| r.front(r.count(Denied))), "requests_denied_total"),
        ("dresp", "MCP", "MCP", Zero, "responses_denied_total"),
        ("ereq", "MCP", "", Number(|r| r.front(r.count(BadRequests))), "request_errors_total"),
        ("econ", "", "MCP", Number(|r| r.count(NoServer)), ""),
        ("eresp|wretr|wredis", "", "MCP", Zero, ""),
        ("status", "SGP", "SGP", Words(|r| r.status()), "status"),
        ("weight", "", "MaP", Zero, ""),
        ("act|bck", "", "MGP", Zero, ""),
        ("chkfail", "", "", Absent, ""),
        ("chkdown", "", "MCP", Zero, ""),
        ("lastchg", "", "MAP", Number(|r| r.view.now_ms / 1000), ""),
        ("downtime|qlimit", "", "", Absent, ""),
        ("pid", "KGP", "KGP", Number(|_| 1), ""),
        ("iid", "KGS", "KGS", Number(|r| r.proxy.id.into()), ""),
        ("sid", "KGS", "KGS", Zero, ""),
        ("throttle", "", "", Absent, ""),
        ("lbtot", "", "MCP", Zero, ""),
        ("tracked", "", "", Absent, ""),
        ("type", "CGS", "CGS", Number(|r| r.backend.into()), ""),
        ("rate", "MRP", "MGP", Number(|r| r.side(&r.numbers.connection_rate, &r.numbers.backend_rate).read(r.view.now_ms)), ""),
        ("rate_lim", "CLP", "", Zero, "limit_session_rate"),
        ("rate_max", "MMP", "MGP", Number(|r| r.side(&r.numbers.connection_rate, &r.numbers.backend_rate).max), "max_session_rate"),
        ("check_status|check_code|check_duration", "", "", Absent, ""),
        ("hrsp_1xx", "MCP", "MCP", Number(|r| r.front(r.numbers.answered[1])), "http_responses_total"),
        ("hrsp_2xx", "MCP", "MCP", Number(|r| r.front(r.numbers.answered[2])), "http_responses_total"),
        ("hrsp_3xx", "MCP", "MCP", Number(|r| r.front(r.numbers.answered[3])), "http_responses_total"),
        ("hrsp_4xx", "MCP", "MCP", Number(|r| r.front(r.numbers.answered[4])), "http_responses_total"),
        ("hrsp_5xx", "MCP", "MCP", Number(|r| r.side(r.numbers.answered[5], r.count(NoServer))), "http_responses_total"),
        ("hrsp_other", "MCP", "MCP", Number(|r| r.front(r.numbers.answered[0])), "http_responses_total"),
        ("hanafail", "", "", Absent, ""),
        ("req_rate", "MRP", "", Number(|r| r.numbers.request_rate.read(r.view.now_ms)), ""),
        ("req_rate_max", "MMP", "", Number(|r| r.numbers.request_rate.max), "http_requests_rate_max"),
        ("req_tot", "MCP", "MCP", Number(|r| r.side(r.numbers.requests(), r.count(NoServer))), "http_requests_total"),
        ("cli_abrt|srv_abrt", "", "MCP", Zero, ""),
        ("comp_in", "MCP", "MCP", Zero, "http_comp_bytes_in_total"),
        ("comp_out", "MCP", "MCP", Zero, "http_comp_bytes_out_total"),
        ("comp_byp", "MCP", "MCP", Zero, "http_comp_bytes_bypassed_total"),
        ("comp_rsp", "MCP", "MCP", Zero, "http_comp_responses_total"),
        ("lastsess", "", "MAP", LastSession, ""),
        ("last_chk|last_agt", "", "", Absent, ""),
        ("qtime|ctime|rtime|ttime", "", "MaP", Zero, ""),
        ("agent_status|agent_code|agent_duration|check_desc|agent_desc|check_rise|check_fall|check_health|\
          agent_rise|agent_fall|agent_health|addr|cookie", "", "", Absent, ""),
        ("mode", "CGS", "CGS", Words(|r| if r.proxy.http { &b"http"[..] } else { b"tcp" }), ""),
        ("algo", "", "CGS", Words(|_| b"roundrobin"), ""),
        ("conn_rate", "MRP", "", Number(|r| r.numbers.connection_rate.read(r.view.now_ms)), ""),
        ("conn_rate_max", "MMP", "", Number(|r| r.numbers.connection_rate.max), "connections_rate_max"),
        ("conn_tot", "MCP", "", Number(|r| r.front(r.count(Connections))), "connections_total"),
        ("intercepted", "MCP", "", Number(|r| r.front(r.count(Intercepted))), "intercepted_requests_total"),
        ("dcon", "MCP", "", Zero, "denied_connections_total"),
        ("dses", "MCP", "", Zero, "denied_sessions_total"),
        ("wrew", "MCP", "MCP", Zero, "failed_header_rewriting_total"),
        ("connect|reuse", "", "MCP", Zero, ""),
        ("cache_lookups", "MCP", "MCP", Zero, "http_cache_lookups_total"),
        ("cache_hits", "MCP", "MCP", Zero, "http_cache_hits_total"),
        ("srv_icur|src_ilim", "", "", Absent, ""),
        ("qtime_max|ctime_max|rtime_max|ttime_max", "", "MMP", Zero, ""),
        ("eint", "MCP", "MCP", Number(|r| r.front(r.count(InternalErrors))), "internal_errors_total"),
        ("idle_conn_cur|safe_conn_cur|used_conn_cur|need_conn_est", "", "", Absent, ""),
        ("uweight", "", "MaP", Zero, ""),
        ("agg_server_status|agg_server_check_status|agg_check_status", "", "MGP", Zero, ""),
        ("srid", "", "", Absent, ""),
        ("sess_other", "MCP", "", Number(|r| r.front(r.count(OtherSessions))), ""),
        ("h1sess", "MCP", "", Number(|r| r.front(r.count(H1Sessions))), ""),
        ("h2sess|h3sess", "MCP", "", Zero, ""),
        ("req_other", "MCP", "", Number(|r| r.front(r.count(OtherRequests))), ""),
        ("h1req", "MCP", "", Number(|r| r.front(r.count(H1Requests))), ""),
        ("h2req|h3req", "MCP", "", Zero, ""),
        ("proto", "", "", Absent, ""),
        ("-", "", "", Dash, ""),
        ("ssl_sess|ssl_reused_sess|ssl_failed_handshake|h2_headers_rcvd|h2_data_rcvd|h2_settings_rcvd|\
          h2_rst_stream_rcvd|h2_goaway_rcvd|h2_detected_conn_protocol_errors|h2_detected_strm_protocol_errors|\
          h2_rst_stream_resp|h2_goaway_resp", "MCP", "MCP", Zero, ""),
        ("h2_open_connections|h2_backend_open_streams", "MGP", "MGP", Zero, ""),
        ("h2_total_connections|h2_backend_total_streams", "MCP", "MCP", Zero, ""),
        ("h1_open_connections", "MGP", "MGP", Number(|r| r.front(r.numbers.sessions)), ""),
        ("h1_open_streams", "MGP", "MGP", Number(|r| r.front(r.numbers.requests() - r.numbers.answered.iter().sum::<u64>())), ""),
        ("h1_total_connections", "MCP", "MCP", Number(|r| r.front(r.count(H1Sessions))), ""),
        ("h1_total_streams", "MCP", "MCP", Number(|r| r.front(r.count(H1Requests))), ""),
        ("h1_bytes_in", "MCP", "MCP", Number(|r| r.front(r.count(WireIn))), ""),
        ("h1_bytes_out", "MCP", "MCP", Number(|r| r.front(r.count(WireOut))), ""),
        ("h1_spliced_bytes_in|h1_spliced_bytes_out", "MCP", "MCP", Zero, ""),
    ];
    /// Number of the first name of each line, and of all names behind the last.
    const STARTS: [u8; COLUMNS.len() + 1] = {
        let mut starts = [0; COLUMNS.len() + 1];
        let mut line = 0;
        while line < COLUMNS.len() {
            let names = COLUMNS[line].0.as_bytes();
            let (mut count, mut at) = (1, 0);
            while at < names.len() {
                count += (names[at] == b'|') as u8;
                at += 1;
            }
            starts[line + 1] = starts[line] + count;
            line += 1;
        }
        starts
    };
    const _: () = assert!(STARTS[COLUMNS.len()] == 138, "the columns of HAProxy 2.8");

    #[derive(Clone, Copy)]
    enum Value {
        Text(Text),
        U32(u64),
        U64(u64),
        S32(i64),
    }

    impl Value {
        /// Its type in the typed and the JSON format.
        fn kind(self) -> &'static str {
            match self {
                Self::Text(_) => "str",
                Self::U32(_) => "u32",
                Self::U64(_) => "u64",
                Self::S32(_) => "s32",
            }
        }

        fn put(self, out: &mut Out) {
            match self {
                Self::Text(text) => out.json(text),
                Self::U32(number) | Self::U64(number) => out.num(number),
                Self::S32(number) => out.num(number),
            };
        }
    }

    /// A table's line: a proxy's frontend side or its backend side.
    struct Row<'a> {
        view: &'a View<'a>,
        proxy: &'a Proxy,
        numbers: &'a Counters,
        backend: bool,
    }

    impl Row<'_> {
        fn tags(&self, column: &Column) -> &'static str {
            if self.backend { column.2 } else { column.1 }
        }

        fn side<T>(&self, front: T, back: T) -> T {
            if self.backend { back } else { front }
        }

        /// What only a frontend counts.
        fn front(&self, number: u64) -> u64 {
            self.side(number, 0)
        }

        fn count(&self, count: Count) -> u64 {
            self.numbers.counts[count as usize]
        }

        fn limit(&self) -> u64 {
            u64::from(self.proxy.maxconn.unwrap_or(self.view.statistics.process.maxconn))
        }

        fn status(&self) -> Text {
            match self.view.statistics.process.stopping {
                true => b"STOP",
                false => self.side(b"OPEN", b"UP"),
            }
        }

        /// What stands in a column, None where it stays empty.
        fn value(&self, column: &Column) -> Option<Value> {
            let tags = self.tags(column).as_bytes();
            let number = match column.3 {
                _ if tags.is_empty() => return None,
                Absent | Dash => return None,
                Words(words) => return Some(Value::Text(words(self))),
                LastSession => {
                    let age = |ms: u64| (self.view.now_ms.saturating_sub(ms) / 1000) as i64;
                    return Some(Value::S32(self.numbers.backend_last_ms.map_or(-1, age)));
                }
                Zero => 0,
                Number(number) => number(self),
            };
            // counters are 64 bits wide, and so are the gauges of the HTTP muxes
            let wide = tags[1] == b'C' || matches!(column.0.as_bytes(), [b'h', b'1' | b'2', b'_', ..]);
            Some(if wide { Value::U64(number) } else { Value::U32(number) })
        }
    }

    // ---- templates: what of a page is known at start ------------------------

    /// Places in [`Templates::rows`].
    const CSV: usize = 0;
    const HTML: usize = 1;
    const DETAIL: usize = 2;

    /// What depends on the moment, behind a text that does not.
    enum Hole {
        /// A number of a row: plain, or with its thousands apart.
        Plain(fn(&Row) -> u64),
        Grouped(fn(&Row) -> u64),
        /// The same, behind a `>` or, above zero, in the colour of an alarm.
        Alarm(fn(&Row) -> u64),
        /// Anything else of a column.
        Other(fn(&Row, &'static Column, &mut Out), &'static Column),
        End,
    }
    type Template = Vec<(Text, Hole)>;

    /// The parts of the two pages that people and scrapers ask for most, for
    /// each side of each proxy: made at start, filled in on every request.
    #[derive(Default)]
    pub struct Templates {
        csv_header: Text,
        html_heads: Text,
        /// Of each proxy with statistics: the page down to its version, and
        /// the options of a page that was asked for without any.
        html_tops: Vec<[Text; 2]>,
        /// Line of the CSV, of the page, and what stands below the latter.
        rows: Vec<[Template; 3]>,
    }

    impl Templates {
        pub fn new(view: &View) -> Self {
            let mut header = b"# ".to_vec();
            header.extend(COLUMNS.iter().flat_map(|column| column.0.bytes().chain([b',']).map(comma)));
            header.push(b'\n');
            let mut heads = Draft::default();
            heads.put("<tr><th rowspan=2>");
            for (title, columns) in GROUPS {
                let count = columns.split(' ').count();
                heads.put("<th colspan=").put(itoa::Buffer::new().format(count)).put(">").put(title);
            }
            heads.put("<tr>");
            for (_, columns) in GROUPS {
                for (at, label) in columns.split(' ').enumerate() {
                    heads
                        .put(if at == 0 { "<th class=g>" } else { "<th>" })
                        .put(label.split(':').next().unwrap_or(label));
                }
            }
            let row = |at: usize| {
                let (proxy, numbers) = (&view.config.proxies[at / 2], &view.statistics.proxies[at / 2]);
                let row = Row { view, proxy, numbers, backend: at % 2 == 1 };
                [csv_template(&row), html_template(&row), details_template()]
            };
            Self {
                csv_header: header.leak(),
                html_heads: heads.0.leak(),
                html_tops: (0..view.config.proxies.len()).map(|owner| html_top(view.config, owner)).collect(),
                rows: (0..view.config.proxies.len() * 2).map(row).collect(),
            }
        }
    }

    fn comma(byte: u8) -> u8 {
        if byte == b'|' { b',' } else { byte }
    }

    /// A template that is being made.
    #[derive(Default)]
    struct Draft(Vec<u8>, Template);

    impl Draft {
        fn put(&mut self, text: &str) -> &mut Self {
            self.0.extend_from_slice(text.as_bytes());
            self
        }

        fn hole(&mut self, hole: Hole) {
            self.1.push((std::mem::take(&mut self.0).leak(), hole));
        }

        fn done(mut self) -> Template {
            self.hole(Hole::End);
            self.1
        }
    }

    fn csv_template(row: &Row) -> Template {
        let mut draft = Draft::default();
        for (at, column) in COLUMNS.iter().enumerate() {
            for _ in STARTS[at]..STARTS[at + 1] {
                match column.3 {
                    Dash => drop(draft.put("-")),
                    _ if row.tags(column).is_empty() => {}
                    Zero => drop(draft.put("0")),
                    Number(number) => draft.hole(Hole::Plain(number)),
                    _ => draft.hole(Hole::Other(csv_cell, column)),
                }
                draft.put(",");
            }
        }
        draft.put("\n");
        draft.done()
    }

    fn csv_cell(row: &Row, column: &'static Column, out: &mut Out) {
        if let Some(value) = row.value(column) {
            value.put(out);
        }
    }

    fn html_template(row: &Row) -> Template {
        let mut draft = Draft::default();
        draft.put("<tr><td>").put(row.side("Frontend", "Backend"));
        for (_, columns) in GROUPS {
            for (at, name) in columns.split(' ').enumerate() {
                draft.put(if at == 0 { "<td class=g>" } else { "<td>" });
                let column = named(name.split(':').next_back().unwrap_or(name));
                match column.3 {
                    _ if row.tags(column).is_empty() => {}
                    Zero => drop(draft.put("0")),
                    Number(number) => draft.hole(Hole::Grouped(number)),
                    _ => draft.hole(Hole::Other(html_cell, column)),
                }
            }
        }
        draft.done()
    }

    fn details_template() -> Template {
        let mut draft = Draft::default();
        draft.put("<dl class=s>");
        for (label, name) in DETAILS {
            let alarming = matches!(*name, "hrsp_5xx" | "eint");
            draft.put("<div><dt>").put(label).put(if alarming { "<dd" } else { "<dd>" });
            match named(name).3 {
                Number(number) if alarming => draft.hole(Hole::Alarm(number)),
                Number(number) => draft.hole(Hole::Grouped(number)),
                _ => drop(draft.put(if alarming { ">0" } else { "0" })),
            }
            draft.put("</div>");
        }
        draft.put("</dl>");
        draft.done()
    }

    /// The first part of an owner's page, and its options where none is set.
    fn html_top(config: &Config, owner: usize) -> [Text; 2] {
        let Some(stats) = &config.proxies[owner].stats else { return [b"", b""] };
        let mut room = [0; 8192];
        let mut out = Out::new(&mut room, 0);
        let name = config.proxies[owner].name;
        out.put(PAGE_TOP).html(stats.node.unwrap_or(name)).put(": statistics</title><style>").put(STYLE);
        out.put("</style><header><h1>Statistics");
        if let Some(node) = stats.node {
            out.put(" of ").html(node);
        }
        out.put("</h1><p>").html(stats.description.unwrap_or(b"")).put("</p><p>tiny-haproxy");
        out.put(if stats.hide_version { "" } else { concat!(" version ", env!("CARGO_PKG_VERSION")) });
        let top = out.written().len();
        Page::new(Kind::Html, owner as u16).html_options(stats, &mut out);
        let text: Text = cat!(out.written(), "");
        [&text[..top], &text[top..]]
    }

    fn named(name: &str) -> &'static Column {
        COLUMNS.iter().find(|column| names(column).any(|other| other == name)).unwrap_or(&COLUMNS[0])
    }

    fn html_cell(row: &Row, column: &'static Column, out: &mut Out) {
        match row.value(column) {
            Some(Value::Text(status)) => {
                let full = !row.backend && row.numbers.sessions >= row.limit();
                out.put("<b class=").put(match status {
                    b"STOP" => "stop>",
                    _ if full => "full>",
                    _ => "open>",
                });
                out.put(status).put("</b>");
            }
            Some(Value::U32(number) | Value::U64(number)) => grouped(number, out),
            Some(Value::S32(seconds)) if seconds >= 0 => uptime(seconds as u64, out),
            Some(Value::S32(_)) | None => {}
        }
    }

    impl Row<'_> {
        /// Writes one of the row's templates: see [`Templates::rows`].
        fn fill(&self, which: usize, out: &mut Out) {
            let at = (self.proxy.id as usize - 1) * 2 + usize::from(self.backend);
            for (text, hole) in &self.view.statistics.templates.rows[at][which] {
                out.put(text);
                match hole {
                    Hole::Plain(number) => drop(out.num(number(self))),
                    Hole::Grouped(number) => grouped(number(self), out),
                    Hole::Alarm(number) => {
                        let number = number(self);
                        out.put(if number > 0 { " class=bad>" } else { ">" }).num(number);
                    }
                    Hole::Other(write, column) => write(self, column, out),
                    Hole::End => {}
                }
            }
        }
    }

    fn names(column: &'static Column) -> std::str::Split<'static, char> {
        column.0.split('|')
    }

    /// All that a page shows.
    pub struct View<'a> {
        pub config: &'a Config,
        pub statistics: &'a Statistics,
        pub now_ms: u64,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Kind {
        Html,
        Csv,
        Typed,
        Json,
        Schema,
        Metrics,
    }

    /// A page that is being written, piece by piece: what was asked for, and
    /// how far it has got. It is a few bytes, so that a client that reads
    /// slowly holds no page.
    #[derive(Clone, Debug)]
    pub struct Page {
        kind: Kind,
        /// Next piece to write.
        piece: u32,
        /// The proxy whose page it is.
        owner: u16,
        hide_down: bool,
        no_refresh: bool,
        /// Of the metrics: those of the process, those of frontends.
        global: bool,
        frontends: bool,
        banner: Option<&'static str>,
        scope: [u8; MAX_SCOPE],
        scope_len: u8,
    }

    /// `;st=` of a page, and the text of its banner.
    const BANNERS: &[(&[u8], &str)] = &[
        (b";st=DONE", "The action was carried out."),
        (b";st=NONE", "Nothing was changed."),
        (b";st=PART", "The action was carried out in part."),
        (b";st=ERRP", "The action could not be understood."),
        (b";st=EXCD", "The request was too large."),
        (b";st=DENY", "The action was refused: this page is read-only."),
        (b";st=UNKN", "The result is not known."),
    ];

    impl Page {
        /// The page that the part of a target behind the stats URI asks for.
        pub fn stats(owner: u16, options: &[u8]) -> Self {
            let has = |word: &[u8]| http::find(options, word).is_some();
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
            if has(b";st=") {
                page.banner = BANNERS.iter().find(|banner| has(banner.0)).map(|banner| banner.1);
            }
            if let Some(at) = http::find(options, b"scope=") {
                let value = options[at + 6..].iter().take_while(|byte| !matches!(byte, b'&' | b';'));
                for (room, byte) in page.scope.iter_mut().zip(value) {
                    *room = *byte;
                    page.scope_len += 1;
                }
            }
            page
        }

        /// The metrics for a query; None for a scope that does not exist.
        pub fn metrics(owner: u16, query: &[u8]) -> Option<Self> {
            let mut page = Self::new(Kind::Metrics, owner);
            let mut chosen = false;
            for pair in query.split(|&byte| byte == b'&') {
                let (key, value) = http::split_at_byte(pair, b'=');
                if key != b"scope" {
                    continue;
                }
                chosen = true;
                match value {
                    b"*" => (page.global, page.frontends) = (true, true),
                    b"global" => page.global = true,
                    b"frontend" => page.frontends = true,
                    b"" => (page.global, page.frontends) = (false, false),
                    // accepted, and empty: there is nothing of the kind
                    b"backend" | b"server" | b"listener" | b"sticktable" => {}
                    _ => return None,
                }
            }
            if !chosen {
                (page.global, page.frontends) = (true, true);
            }
            Some(page)
        }

        fn new(kind: Kind, owner: u16) -> Self {
            Self {
                kind,
                piece: 0,
                owner,
                hide_down: false,
                no_refresh: false,
                global: false,
                frontends: false,
                banner: None,
                scope: [0; MAX_SCOPE],
                scope_len: 0,
            }
        }

        /// Header fields of the answer before its framing.
        pub fn fields(&self, config: &Config, out: &mut Out) {
            out.put("HTTP/1.1 200 OK\r\ncache-control: no-cache\r\ncontent-type: ").put(match self.kind {
                Kind::Html => "text/html",
                Kind::Csv | Kind::Typed => "text/plain",
                Kind::Json | Kind::Schema => "application/json",
                Kind::Metrics => "text/plain; version=0.0.4",
            });
            out.put("\r\n");
            let refresh = self.refresh(config);
            if refresh > 0 && !self.no_refresh {
                out.put("refresh: ").num(refresh).put("\r\n");
            }
        }

        fn refresh(&self, config: &Config) -> u32 {
            let stats = config.proxies[usize::from(self.owner)].stats.as_ref();
            stats.filter(|_| self.kind != Kind::Metrics).map_or(0, |stats| stats.refresh)
        }

        /// Writes pieces while they fit; true when the page is complete.
        pub fn write(&mut self, view: &View, out: &mut Out) -> bool {
            loop {
                let mark = out.len();
                let more = self.write_piece(view, self.piece as usize, out);
                if out.full {
                    out.truncate(mark);
                    return false;
                }
                if !more {
                    return true;
                }
                self.piece += 1;
            }
        }

        /// Writes one piece, which fits into the least `tune.bufsize` with a
        /// head beside it; false for the last one.
        fn write_piece(&self, view: &View, piece: usize, out: &mut Out) -> bool {
            match self.kind {
                Kind::Html => self.html_piece(view, piece, out),
                Kind::Csv => self.csv_piece(view, piece, out),
                Kind::Typed => self.typed_piece(view, piece, out),
                Kind::Json => self.json_piece(view, piece, out),
                Kind::Schema => schema_piece(piece, out),
                Kind::Metrics => self.metrics_piece(view, piece, out),
            }
        }

        /// Two lines a proxy, of which some are not shown; None behind the last.
        fn row<'a>(&self, view: &'a View, at: usize) -> Option<Option<Row<'a>>> {
            let proxy = view.config.proxies.get(at / 2)?;
            let backend = at % 2 == 1;
            let shown = self.shows(view.config, proxy) && (!backend || proxy.kind == ProxyKind::Listen);
            let numbers = &view.statistics.proxies[at / 2];
            Some(shown.then_some(Row { view, proxy, numbers, backend }))
        }

        fn shows(&self, config: &Config, proxy: &Proxy) -> bool {
            let owner = &config.proxies[usize::from(self.owner)];
            let scope = &self.scope[..usize::from(self.scope_len)];
            let limited = owner.stats.as_ref().map_or(&[][..], |stats| &stats.scope[..]);
            let named = |name: &Text| *name == proxy.name || *name == b"." && proxy.name == owner.name;
            !proxy.disabled
                && (limited.is_empty() || limited.iter().any(named))
                && (scope.is_empty() || proxy.name.windows(scope.len()).any(|part| part.eq_ignore_ascii_case(scope)))
        }

        fn csv_piece(&self, view: &View, piece: usize, out: &mut Out) -> bool {
            if piece == 0 {
                out.put(view.statistics.templates.csv_header);
                return true;
            }
            match self.row(view, piece - 1) {
                None => return false,
                Some(None) => {}
                Some(Some(row)) => row.fill(CSV, out),
            }
            true
        }

        fn typed_piece(&self, view: &View, piece: usize, out: &mut Out) -> bool {
            let (at, line) = (piece / COLUMNS.len(), piece % COLUMNS.len());
            let Some(row) = self.row(view, at) else { return false };
            let Some(row) = row else { return true };
            let column = &COLUMNS[line];
            let Some(value) = row.value(column) else { return true };
            for (name, position) in names(column).zip(position(line)..) {
                out.put(row.side("F.", "B.")).num(row.proxy.id).put(".0.").num(position).put(".").put(name);
                out.put(".1:").put(row.tags(column)).put(":").put(value.kind()).put(":");
                value.put(out);
                out.put("\n");
            }
            true
        }

        fn json_piece(&self, view: &View, piece: usize, out: &mut Out) -> bool {
            if piece == 0 {
                out.put("[");
                return true;
            }
            let (at, line) = ((piece - 1) / COLUMNS.len(), (piece - 1) % COLUMNS.len());
            let Some(row) = self.row(view, at) else {
                out.put("]\n");
                return false;
            };
            let Some(row) = row else { return true };
            let column = &COLUMNS[line];
            if line == 0 {
                let first = (0..at).all(|before| !matches!(self.row(view, before), Some(Some(_))));
                out.put(if first { "[" } else { ",[" });
            }
            if let Some(value) = row.value(column) {
                let tags = row.tags(column).as_bytes();
                for (name, position) in names(column).zip(position(line)..) {
                    out.put(if position == 0 { "" } else { "," })
                        .put("{\"objType\":\"")
                        .put(row.side("Frontend", "Backend"));
                    out.put("\",\"proxyId\":").num(row.proxy.id).put(",\"id\":0,\"field\":{\"pos\":").num(position);
                    out.put(",\"name\":\"").put(name).put("\"},\"processNum\":1,\"tags\":{\"origin\":\"");
                    out.put(tag(b'O', tags[0])).put("\",\"nature\":\"").put(tag(b'N', tags[1])).put("\",\"scope\":\"");
                    out.put(tag(b'S', tags[2]))
                        .put("\"},\"value\":{\"type\":\"")
                        .put(value.kind())
                        .put("\",\"value\":");
                    let quote = if let Value::Text(_) = value { "\"" } else { "" };
                    out.put(quote);
                    value.put(out);
                    out.put(quote).put("}}");
                }
            }
            if line + 1 == COLUMNS.len() {
                out.put("]");
            }
            true
        }

        fn metrics_piece(&self, view: &View, piece: usize, out: &mut Out) -> bool {
            let metrics = if self.global { PROCESS.len() } else { 0 };
            if let Some((names, counter, number)) = PROCESS[..metrics].get(piece) {
                for name in names.split('|') {
                    put_help("process", name, *counter, out);
                    out.put("haproxy_process_").put(name);
                    if name == "build_info" {
                        out.put(concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"));
                    }
                    out.put(" ").num(number(view)).put("\n");
                }
                return true;
            }
            let proxies = view.config.proxies.len();
            let (line, at) = ((piece - metrics) / proxies, (piece - metrics) % proxies);
            let Some(column) = COLUMNS.get(line).filter(|_| self.frontends) else { return false };
            let (name, metric) = (column.0, column.4);
            let row =
                Row { view, proxy: &view.config.proxies[at], numbers: &view.statistics.proxies[at], backend: false };
            if metric.is_empty() {
                return true;
            }
            // the classes of answers are one metric
            if at == 0 && (metric != "http_responses_total" || name == "hrsp_1xx") {
                put_help("frontend", metric, column.1.as_bytes()[1] == b'C', out);
            }
            let mut sample = |label: &str, value: &str, number: u64| {
                out.put("haproxy_frontend_").put(metric).put("{proxy=\"").json(row.proxy.name).put("\"");
                if !label.is_empty() {
                    out.put(",").put(label).put("=\"").put(value).put("\"");
                }
                out.put("} ").num(number).put("\n");
            };
            match (row.value(column), name.strip_prefix("hrsp_")) {
                (Some(Value::U32(number) | Value::U64(number)), Some(code)) => sample("code", code, number),
                (Some(Value::U32(number) | Value::U64(number)), None) => sample("", "", number),
                _ => {
                    let up = u64::from(row.status() == b"OPEN");
                    sample("state", "DOWN", 1 - up);
                    sample("state", "UP", up);
                }
            }
            true
        }

        // ---- the page ------------------------------------------------------

        fn html_piece(&self, view: &View, piece: usize, out: &mut Out) -> bool {
            let owner = &view.config.proxies[usize::from(self.owner)];
            let Some(stats) = &owner.stats else { return false };
            match piece {
                0 => drop(out.put(view.statistics.templates.html_tops[usize::from(self.owner)][0])),
                1 => self.html_head(view, stats, out),
                2 if !self.hide_down && !self.no_refresh && self.scope_len == 0 => {
                    out.put(view.statistics.templates.html_tops[usize::from(self.owner)][1]);
                }
                2 => self.html_options(stats, out),
                _ => match self.row(view, (piece - 3) * 2) {
                    None => return false,
                    Some(None) => {}
                    Some(Some(front)) => {
                        html_proxy(&front, stats, out);
                        if let Some(Some(back)) = self.row(view, (piece - 3) * 2 + 1) {
                            back.fill(HTML, out);
                        }
                        out.put("</table></div>");
                        front.fill(DETAIL, out);
                    }
                },
            }
            true
        }

        fn html_head(&self, view: &View, stats: &Stats, out: &mut Out) {
            let process = &view.statistics.process;
            out.put(if process.stopping { " <b class=bad>stopping</b>" } else { "" }).put("</p></header>");
            if let Some(banner) = self.banner {
                out.put("<p class=banner>").put(banner).put(" <a href='").html(stats.uri).put("'>Dismiss</a></p>");
            }
            let now = view.now_ms;
            let full = process.connections >= u64::from(process.maxconn);
            out.put("<dl><div><dt>pid<dd>").num(std::process::id()).put("</div><div><dt>uptime<dd>");
            uptime(now / 1000, out);
            let mut fact = |label: &str, number: u64, alarming: bool| {
                out.put("</div><div><dt>").put(label).put(if alarming { "<dd class=bad>" } else { "<dd>" });
                grouped(number, out);
            };
            fact("connections now", process.connections, full);
            fact("of at most", process.maxconn.into(), false);
            fact("most so far", process.connections_max, false);
            fact("times full", process.waits, process.waits > 0);
            fact("connections/s", process.connection_rate.read(now), false);
            fact("bits/s out", process.bytes_rate.read(now) * 8, false);
            fact("connections", process.connections_total, false);
            fact("requests", process.requests_total, false);
            fact("KiB reserved", process.memory_kib, false);
            fact("file limit", process.max_files, false);
            fact("logs dropped", process.dropped_logs, process.dropped_logs > 0);
            out.put("</div>");
            out.put("</dl>");
        }

        fn html_options(&self, stats: &Stats, out: &mut Out) {
            let scope = &self.scope[..usize::from(self.scope_len)];
            out.put("<nav>");
            let mut link = |up: bool, still: bool, options: &str, text: &str| {
                out.put("<a href='").html(stats.uri).put(options);
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
            out.put("<form><label>Scope <input name=scope size=10 maxlength=20 value='").html(scope).put(
                "'></label></form><span class=key><i class=open></i>open <i class=full></i>at its limit <i class=stop></i>stopping",
            );
            out.put("</span></nav>");
        }
    }

    /// Title, column heads and the frontend's line of one proxy.
    fn html_proxy(row: &Row, stats: &Stats, out: &mut Out) {
        let proxy = row.proxy;
        out.put("<h2 id='").html(proxy.name).put("'>").html(proxy.name).put(" <small>").html(proxy.description);
        if stats.legends {
            out.put(if proxy.http { " mode http" } else { " mode tcp" }).put(", id ").num(proxy.id);
            // as many addresses as fit into a piece
            for bind in proxy.binds.iter().take(16) {
                if let Bind::Address(_, shown) = bind {
                    out.put(", ").html(shown);
                }
            }
        }
        out.put("</small></h2><div class=wide><table>").put(row.view.statistics.templates.html_heads);
        row.fill(HTML, out);
    }

    const PAGE_TOP: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
                             <link rel=icon href='data:,'><title>";

    /// Column groups of the page: each label with its column of the CSV.
    const GROUPS: &[(&str, &str)] = &[
        ("Queue", "Cur:qcur Max:qmax Limit:qlimit"),
        ("Session rate", "Cur:rate Max:rate_max Limit:rate_lim"),
        ("Sessions", "Cur:scur Max:smax Limit:slim Total:stot LbTot:lbtot Last:lastsess"),
        ("Bytes", "In:bin Out:bout"),
        ("Denied", "Req:dreq Resp:dresp"),
        ("Errors", "Req:ereq Conn:econ Resp:eresp"),
        ("Warnings", "Retr:wretr Redis:wredis"),
        ("Server", "Status:status Wght:weight Act:act Bck:bck Chk:chkfail Dwn:chkdown Dwntme:downtime"),
    ];

    /// What stands below a proxy's table, always in view: label and column.
    const DETAILS: &[(&str, &str)] = &[
        ("requests", "req_tot"),
        ("requests/s", "req_rate"),
        ("at most", "req_rate_max"),
        ("1xx", "hrsp_1xx"),
        ("2xx", "hrsp_2xx"),
        ("3xx", "hrsp_3xx"),
        ("4xx", "hrsp_4xx"),
        ("5xx", "hrsp_5xx"),
        ("other", "hrsp_other"),
        ("intercepted", "intercepted"),
        ("failures", "eint"),
        ("connections", "conn_tot"),
        ("connections/s", "conn_rate"),
        ("at most", "conn_rate_max"),
    ];

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

    /// A number with a thin space between its thousands.
    fn grouped(number: u64, out: &mut Out) {
        if number < 1000 {
            out.num(number);
            return;
        }
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(number).as_bytes();
        for (at, digit) in digits.iter().enumerate() {
            out.put(if at > 0 && (digits.len() - at).is_multiple_of(3) { "&#8239;" } else { "" }).put([*digit]);
        }
    }

    /// `1d 2h3m4s`
    fn uptime(seconds: u64, out: &mut Out) {
        for (unit, name, wrap) in [(86_400, "d ", u64::MAX), (3600, "h", 24), (60, "m", 60)] {
            if seconds >= unit {
                out.num(seconds / unit % wrap).put(name);
            }
        }
        out.num(seconds % 60).put("s");
    }

    // ---- parts of the formats ------------------------------------------------

    /// Number of the first column of a line, the `-` among them not counted.
    fn position(line: usize) -> u8 {
        let dash = COLUMNS[..line].iter().any(|column| matches!(column.3, Dash));
        STARTS[line] - u8::from(dash)
    }

    /// Words for the letters of the typed format: origin, nature and scope.
    const TAGS: &[(u8, &str)] = &[
        (b'O', "Metric Status Key Config"),
        (b'N', "Gauge Limit Max Rate Counter Age Name Duration Time Output avg"),
        (b'S', "Process Service Cluster System"),
    ];

    fn tag(group: u8, letter: u8) -> &'static str {
        let words = TAGS.iter().filter(|tags| tags.0 == group).flat_map(|tags| tags.1.split(' '));
        match words.into_iter().find(|word| word.as_bytes()[0] == letter) {
            Some("avg") => "Avg",
            word => word.unwrap_or("Unknown"),
        }
    }

    /// JSON Schema (draft 4) of what `;json` gives.
    fn schema_piece(piece: usize, out: &mut Out) -> bool {
        const HEAD: &str = r##"{"$schema":"http://json-schema.org/draft-04/schema#","title":"Statistics","type":"array","items":{"type":"array","items":{"type":"object","properties":{"objType":{"enum":["Frontend","Backend"]},"proxyId":{"type":"integer","minimum":1},"id":{"type":"integer","minimum":0},"field":{"type":"object","properties":{"pos":{"type":"integer","minimum":0},"name":{"type":"string"}},"required":["pos","name"]},"processNum":{"type":"integer","minimum":1},"tags":{"type":"object","properties":{"##;
        const TAIL: &str = r##"},"required":["origin","nature","scope"]},"value":{"type":"object","properties":{"type":{"enum":["str","u32","u64","s32"]},"value":{"type":["string","integer"]}},"required":["type","value"]}},"required":["objType","proxyId","id","field","processNum","tags","value"]}}}"##;
        if piece == 0 {
            out.put(HEAD);
            return true;
        }
        for ((_, words), name) in TAGS.iter().zip(["\"origin", ",\"nature", ",\"scope"]) {
            out.put(name).put("\":{\"enum\":[");
            for (at, word) in words.split(' ').enumerate() {
                out.put(if at == 0 { "\"" } else { ",\"" }).put(if word == "avg" { "Avg" } else { word }).put("\"");
            }
            out.put("]}");
        }
        out.put(TAIL).put("\n");
        false
    }

    /// HELP and TYPE of a metric (Prometheus text format 0.0.4).
    fn put_help(object: &str, name: &str, counter: bool, out: &mut Out) {
        out.put("# HELP haproxy_").put(object).put("_").put(name).put(" Of the ").put(object).put(":");
        for word in name.split('_') {
            out.put(" ").put(word);
        }
        out.put(".\n# TYPE haproxy_").put(object).put("_").put(name).put(if counter {
            " counter\n"
        } else {
            " gauge\n"
        });
    }

    /// Metrics of the process: names, whether they only grow, and the value.
    type ProcessLine = (&'static str, bool, fn(&View) -> u64);

    #[rustfmt::skip]
    const PROCESS: &[ProcessLine] = &[
        ("nbthread|nbproc|relative_process_id|build_info", false, |_| 1),
        ("uptime_seconds", false, |view| view.now_ms / 1000),
        ("start_time_seconds", false, |view| view.statistics.process.started_wall),
        ("max_fds|max_sockets", false, |view| view.statistics.process.max_files),
        ("max_connections|hard_max_connections", false, |view| view.statistics.process.maxconn.into()),
        ("current_connections", false, |view| view.statistics.process.connections),
        ("connections_total", true, |view| view.statistics.process.connections_total),
        ("requests_total", true, |view| view.statistics.process.requests_total),
        ("current_connection_rate|current_session_rate", false, |view| view.statistics.process.connection_rate.read(view.now_ms)),
        ("max_connection_rate|max_session_rate", false, |view| view.statistics.process.connection_rate.max),
        ("bytes_out_total", true, |view| view.statistics.process.bytes_out),
        ("bytes_out_rate", false, |view| view.statistics.process.bytes_rate.read(view.now_ms)),
        ("stopping", false, |view| view.statistics.process.stopping.into()),
        ("jobs", false, |view| view.statistics.process.connections + view.statistics.process.listeners),
        ("listeners", false, |view| view.statistics.process.listeners),
        ("dropped_logs_total", true, |view| view.statistics.process.dropped_logs),
        ("pool_allocated_bytes", false, |view| view.statistics.process.buffer_bytes),
        ("pool_used_bytes", false, |view| view.statistics.process.buffers_in_use * view.config.global.bufsize as u64),
        ("limit_connection_rate|limit_session_rate|max_ssl_connections|current_ssl_connections|max_pipes|current_ssl_rate|\
          limit_ssl_rate|max_ssl_rate|current_frontend_ssl_key_rate|max_frontend_ssl_key_rate|frontend_ssl_reuse|\
          current_backend_ssl_key_rate|max_backend_ssl_key_rate|limit_http_comp|current_zlib_memory|max_zlib_memory|\
          unstoppable_jobs|active_peers|connected_peers|busy_polling_enabled|max_memory_bytes", false, |_| 0),
        ("pool_failures_total|ssl_connections_total|pipes_used_total|pipes_free_total|ssl_cache_lookups_total|\
          ssl_cache_misses_total|http_comp_bytes_in_total|http_comp_bytes_out_total|\
          spliced_bytes_out_total|recv_logs_total", true, |_| 0),
    ];
}

/// The configuration language: words, sections, the table of keywords.
/// Owns every setting; calls rules, http and log to compile their parts.
mod config {
    use crate::http;
    use crate::log::Target;
    use crate::out::Text;
    use crate::rules::{self, Acl, Action, Condition, Format, Reply, Rule, Userlist, bad};
    use crate::sys;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    /// Largest `maxconn`, and what it is where none is set and memory allows.
    pub const MAXCONN_MAX: u64 = 1_000_000;
    pub const MAXCONN_DEFAULT: u32 = 1000;
    /// Bytes and words of a line, bytes of a file.
    const MAX_LINE: usize = 2048;
    const MAX_WORDS: usize = 64;
    const MAX_FILE: usize = 256 << 10;
    const MAX_PROXIES: usize = 128;
    /// Addresses, rules, ACLs of one proxy.
    const MAX_EACH: usize = 1024;
    const MAX_NAME: usize = 64;
    /// Description, node, realm and what else a page shows, in bytes.
    const MAX_SHOWN: usize = 200;
    /// Room that an answer's head and what is added to it take, in bytes.
    const HEAD_ROOM: usize = 1024;
    /// Longest time, in milliseconds: 24.8 days.
    const MAX_TIME: u64 = 0x7fff_ffff;
    /// Errors that are shown before the rest is passed over.
    const MAX_ERRORS: usize = 100;

    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    pub enum Kind {
        #[default]
        Defaults,
        Frontend,
        Listen,
    }

    #[derive(Clone)]
    pub enum Bind {
        /// An address, and how the configuration writes it.
        Address(SocketAddr, Text),
        /// A listening socket that is inherited.
        Descriptor(i32),
    }

    /// Options that are on or off: bits of [`Proxy::flags`].
    pub const DONTLOGNULL: u8 = 1;
    pub const DONTLOG_NORMAL: u8 = 2;
    pub const IGNORE_PROBES: u8 = 4;
    pub const HTTP_CLOSE: u8 = 8;
    const HTTPLOG: u8 = 16;
    const TCPLOG: u8 = 32;
    const LOG_GLOBAL: u8 = 64;

    /// Places in [`Proxy::timeouts`], and the global one.
    pub const CLIENT: usize = 0;
    pub const HTTP_REQUEST: usize = 1;
    pub const KEEP_ALIVE: usize = 2;
    pub const TARPIT: usize = 3;
    const HARD_STOP: usize = 4;
    const UNUSED: usize = 5;

    #[derive(Clone, Default)]
    pub struct Stats {
        pub uri: Text,
        /// Seconds, 0 for none.
        pub refresh: u32,
        realm: Text,
        /// Who is let in by `stats auth`.
        pub users: Vec<(Text, Text)>,
        pub hide_version: bool,
        pub node: Option<Text>,
        pub description: Option<Text>,
        pub legends: bool,
        /// Names of the proxies shown, `.` for the own one; empty for all.
        pub scope: Vec<Text>,
        /// What `stats http-request` lines say; with users, a challenge last.
        pub rules: Vec<Rule>,
        /// Answers to a POST that was read, and to one too large for it.
        pub sent_back: Vec<Reply>,
    }

    /// A frontend, a listen section, or the defaults that one begins with.
    #[derive(Clone, Default)]
    pub struct Proxy {
        pub name: Text,
        pub kind: Kind,
        /// Where it was declared.
        at: Text,
        /// Number in the order of declaration, from 1.
        pub id: u32,
        pub http: bool,
        pub disabled: bool,
        pub description: Text,
        pub binds: Vec<Bind>,
        pub maxconn: Option<u32>,
        /// In milliseconds; None waits for ever.
        pub timeouts: [Option<u32>; 4],
        flags: u8,
        pub monitor_uri: Option<Text>,
        pub monitor_fail: Vec<Condition>,
        pub stats: Option<Stats>,
        pub acls: Vec<Acl>,
        pub rules: Vec<Rule>,
        redirects: Vec<Rule>,
        /// Configured answers in place of the built-in ones, which come first.
        errors: Vec<Reply>,
        pub targets: Vec<Target>,
        log_format: Option<Text>,
        /// A line for each request, or for each connection.
        pub format: Format,
        pub logs_connections: bool,
        pub tag: Text,
    }

    /// Statuses that the program gives of itself.
    const OWN_STATUSES: [u16; 8] = [500, 200, 400, 408, 413, 422, 503, 403];

    impl Proxy {
        pub fn has(&self, flag: u8) -> bool {
            self.flags & flag != 0
        }

        /// The answer for a status, configured or built in; one of the
        /// program's own statuses.
        pub fn reply(&self, status: u16) -> &Reply {
            self.errors.iter().rev().find(|reply| reply.status == status).unwrap_or(&self.errors[0])
        }

        /// Checks what can only be known at the end, and completes the proxy.
        fn finish(&mut self, config: &Global, lists: &[Userlist], report: &mut Report) {
            let name = cat!("proxy '", self.name, "' at [", self.at, "] ");
            let mut warn = |text: &str| report.warnings.push(cat!(name, text));
            if self.binds.is_empty() && !self.disabled {
                warn("has no 'bind' and will never serve");
            }
            if self.timeouts[CLIENT].is_none() {
                warn("has no 'timeout client' : a dead client keeps its place for ever");
            }
            if !self.http && (self.stats.is_some() || !self.rules.is_empty() || self.monitor_uri.is_some()) {
                warn("is not in 'mode http' : its stats, monitor and http-request lines are ignored");
            }
            if self.has(LOG_GLOBAL) {
                self.targets.extend(config.targets.iter().cloned());
            }
            self.tag = [self.tag, config.tag, b"haproxy"].into_iter().find(|tag| !tag.is_empty()).unwrap_or(b"");
            let format = match self.log_format {
                Some(format) => format,
                None if self.has(HTTPLOG) && self.http => rules::HTTPLOG,
                None if self.has(HTTPLOG | TCPLOG) => rules::TCPLOG,
                None => rules::CONNECTION_LOG,
            };
            self.logs_connections = format == rules::CONNECTION_LOG;
            // what is configured was checked when it was read
            self.format = Format::compile(format, true, lists).unwrap_or_default();
            self.rules.append(&mut self.redirects);
            self.errors.splice(0..0, OWN_STATUSES.map(Reply::standard));
            for reply in &mut self.errors {
                reply.prepare();
            }
            if let Some(stats) = &mut self.stats {
                if !stats.users.is_empty() {
                    let action = Action::Return(Reply::challenge(stats.realm));
                    stats.rules.push(Rule { action, condition: None });
                }
                let to = |state: &str| Reply::redirect(303, Format::literal(cat!(stats.uri, state)), None);
                stats.sent_back = vec![to(";st=DENY"), to(";st=EXCD")];
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
        /// Milliseconds that a soft stop may take, None for ever.
        pub hard_stop: Option<u32>,
        pub node: Text,
        description: Text,
        targets: Vec<Target>,
        tag: Text,
    }

    pub struct Config {
        pub global: Global,
        pub proxies: Vec<Proxy>,
        pub userlists: Vec<Userlist>,
    }

    impl Config {
        /// Bytes that a request's head may have: 400 above.
        pub fn head_limit(&self) -> usize {
            self.global.bufsize - self.global.maxrewrite
        }
    }

    /// Messages of one start, shown together.
    #[derive(Default)]
    pub struct Report {
        pub errors: Vec<Text>,
        pub warnings: Vec<Text>,
        notices: Vec<Text>,
    }

    impl Report {
        pub fn print(&self, verbose: bool) {
            let notices = if verbose { &self.notices[..] } else { &[] };
            for (level, lines) in [("NOTICE", notices), ("WARNING", &self.warnings), ("ALERT", &self.errors)] {
                lines.iter().for_each(|line| crate::message(level, cat!("config : ", line)));
            }
        }
    }

    type Answer = Result<(), Text>;

    /// The words of a line, from the one to be looked at on.
    struct Words<'w>(&'w [Text]);

    impl Words<'_> {
        fn next(&mut self) -> Option<Text> {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            Some(first)
        }

        fn need(&mut self, what: &str) -> Result<Text, Text> {
            self.next().ok_or_else(|| cat!(what, " is missing"))
        }

        /// The next word, where it is this one.
        fn take(&mut self, word: &str) -> bool {
            let is = self.0.first().is_some_and(|first| *first == word.as_bytes());
            self.0 = &self.0[usize::from(is)..];
            is
        }

        fn number(&mut self, least: u64, most: u64) -> Result<u64, Text> {
            let word = self.need("a number")?;
            let bounds = |n: u64| itoa::Buffer::new().format(n).to_owned();
            let message = || bad(word, &["is no number from ", &bounds(least), " to ", &bounds(most)].concat());
            number(word, least, most).ok_or_else(message)
        }

        /// A name or a text that is shown, within its bound.
        fn text(&mut self, what: &str) -> Result<Text, Text> {
            shown(self.need(what)?)
        }

        /// All that is left, as one text.
        fn all(&mut self) -> Result<Text, Text> {
            shown(cat!(std::mem::take(&mut self.0).join(&b' ')))
        }

        /// A time in milliseconds; None for 0, which is no limit.
        fn time(&mut self, plain: &str) -> Result<Option<u32>, Text> {
            let word = self.need("a time")?;
            let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let micros = match if digits == word.len() { plain.as_bytes() } else { &word[digits..] } {
                b"us" => 1,
                b"ms" => 1000,
                b"s" => 1_000_000,
                b"m" => 60_000_000,
                b"h" => 3_600_000_000,
                b"d" => 86_400_000_000,
                _ => 0,
            };
            let value = number(&word[..digits], 0, u64::MAX / 86_400_000_000).filter(|_| micros > 0);
            let millis = value.ok_or_else(|| bad(word, "is no time : a number and us, ms, s, m, h or d"))? * micros;
            match millis.div_ceil(1000) {
                0 => Ok(None),
                ms @ 1..=MAX_TIME => Ok(Some(ms as u32)),
                _ => Err(bad(word, "is longer than 24.8 days")),
            }
        }
    }

    /// What becomes of a keyword.
    enum Fate {
        Set(fn(&mut Parser, &mut Words) -> Answer),
        /// An option: the bits to set, and those to clear.
        Flag(u8, u8),
        /// A time limit, by its place.
        Time(usize),
        /// Accepted without an effect: what it governs does not exist here.
        Ignored,
        Refused(&'static str),
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

    const NO_SERVERS: &str = "there are no servers, nothing is forwarded";
    const NO_STATE: &str = "no tables, caches, variables or captures are kept";

    /// Names, the sections they may stand in, and their fate.
    type Keyword = (&'static str, u8, Fate);

    /// Every word that is known; several in a line are separated by `|`. The
    /// first two words of a configuration line are looked up together, then
    /// the first alone.
    #[rustfmt::skip]
    const KEYWORDS: &[Keyword] = &[
        // the process
        ("hard-stop-after", GLOBAL, Time(HARD_STOP)),
        ("maxconn", GLOBAL | PROXY, Set(|p, w| {
            let value = w.number(0, MAXCONN_MAX)? as u32;
            *(if p.is_global() { &mut p.global.maxconn } else { &mut p.proxy().maxconn }) = (value > 0).then_some(value);
            Ok(())
        })),
        ("nbproc|nbthread", GLOBAL, Set(|_, w| w.number(1, 1).map(drop))),
        ("node", GLOBAL, Set(|p, w| { p.global.node = w.text("a name")?; Ok(()) })),
        ("description", GLOBAL | PROXY, Set(|p, w| {
            *(if p.is_global() { &mut p.global.description } else { &mut p.proxy().description }) = w.all()?;
            Ok(())
        })),
        ("stats socket", GLOBAL, Set(|p, w| {
            w.0 = &[];
            p.report.warnings.push(cat!(p.at(), "'stats socket' is not served"));
            Ok(())
        })),
        ("tune.bufsize", GLOBAL, Set(|p, w| {
            let word = w.need("a size")?;
            let (digits, unit) = match word { [digits @ .., b'k'] => (digits, 1024), digits => (digits, 1) };
            let size = number(digits, 1, 1 << 20).map(|size| size * unit).filter(|size| (8192..=1 << 20).contains(size));
            p.global.bufsize = size.ok_or_else(|| bad(word, "is no size from 8192 to 1024k"))? as usize;
            Ok(())
        })),
        ("tune.maxrewrite", GLOBAL, Set(|p, w| { p.global.maxrewrite = w.number(0, 1 << 20)? as usize; Ok(()) })),
        ("user", GLOBAL | USERLIST, Set(user)),
        ("group", GLOBAL | USERLIST, Ignored),
        ("ca-base|chroot|cpu-map|crt-base|daemon|expose-experimental-directives|gid|insecure-fork-wanted|localpeer|\
          log-send-hostname|master-worker|nogetaddrinfo|noreuseport|nosplice|numa-cpu-mapping|pidfile|quiet|set-dumpable|\
          spread-checks|ssl-default-bind-ciphers|ssl-default-bind-ciphersuites|ssl-default-bind-options|\
          ssl-default-server-ciphers|ssl-default-server-options|ssl-server-verify|stats maxconn|stats timeout|strict-limits|\
          tune.idle-pool.shared|tune.maxaccept|tune.maxpollevents|tune.rcvbuf.client|tune.sndbuf.client|\
          tune.ssl.default-dh-param|uid|ulimit-n|unix-bind|zero-warning", GLOBAL, Ignored),
        ("default-path|noepoll|presetenv|setenv|lua-load", GLOBAL, Refused("nothing here can do it")),
        ("maxconnrate|maxsessrate", GLOBAL, Refused("rates are counted, not limited")),
        ("rate-limit", PROXY, Refused("rates are counted, not limited")),
        ("tune.http.maxhdr", GLOBAL, Refused("a request has at most 100 header fields")),
        // logs
        ("log", GLOBAL | PROXY, Set(log)),
        ("log-format", PROXY, Set(|p, w| {
            let text = w.need("a format")?;
            p.proxy().log_format = Some(text);
            // compiled at the end; checked here, where the line is known
            Format::compile(text, true, &p.userlists).map(drop)
        })),
        ("log-tag", GLOBAL | PROXY, Set(|p, w| {
            *(if p.is_global() { &mut p.global.tag } else { &mut p.proxy().tag }) = w.text("a tag")?;
            Ok(())
        })),
        ("log-format-sd", PROXY, Refused("structured data is not supported")),
        ("option dontlog-normal", PROXY, Flag(DONTLOG_NORMAL, 0)),
        ("option dontlognull", PROXY, Flag(DONTLOGNULL, 0)),
        ("option httplog", PROXY, Flag(HTTPLOG, TCPLOG)),
        ("option tcplog", PROXY, Flag(TCPLOG, HTTPLOG)),
        // proxies
        ("acl", SERVES, Set(acl)),
        ("bind", SERVES, Set(bind)),
        ("disabled", PROXY, Set(|p, _| { p.proxy().disabled = true; Ok(()) })),
        ("enabled", PROXY, Set(|p, _| { p.proxy().disabled = false; Ok(()) })),
        ("errorfile", PROXY, Set(|p, w| {
            let status = w.number(200, 599)? as u16;
            let mut reply = Reply::from_file(sys::read_file(w.need("a file")?)?)?;
            reply.status = status;
            p.fits(&mut reply)?;
            p.proxy().errors.push(reply);
            Ok(())
        })),
        ("mode", PROXY, Set(|p, w| {
            p.proxy().http = match w.need("a mode")? {
                b"http" => true,
                b"tcp" => false,
                other => return Err(bad(other, "is no mode that is supported : http or tcp")),
            };
            Ok(())
        })),
        ("monitor fail", SERVES, Set(|p, w| {
            let condition = p.condition(w)?.ok_or_else(|| cat!("'if' or 'unless' is missing"))?;
            p.proxy().monitor_fail.push(condition);
            Ok(())
        })),
        ("monitor-uri", PROXY, Set(|p, w| { p.proxy().monitor_uri = Some(w.need("a URI")?); Ok(()) })),
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
          option prefer-last-server|option redispatch|option splice-auto|option splice-request|option splice-response|\
          option srvtcpka|option tcp-check|option tcp-smart-accept|option tcp-smart-connect|option tcpka|persist|retries|\
          retry-on|source|stats show-modules", PROXY, Ignored),
        ("cookie|default_backend|dispatch|email-alert|force-persist|http-check|http-response|ignore-persist|\
          option transparent|server|server-template|stats admin|tcp-check|use_backend|use-fcgi-app|use-server",
            PROXY, Refused(NO_SERVERS)),
        ("capture|declare|http-request cache-use|http-request capture|http-request sc-inc-gpc0|http-request set-var|\
          http-request track-sc0|stick|stick-table", PROXY, Refused(NO_STATE)),
        ("compression|filter|http-after-response", PROXY, Refused("answers are sent as they are written")),
        ("errorfiles|errorloc|errorloc302|errorloc303|http-error", PROXY,
            Refused("use 'errorfile', or 'http-request return' and 'redirect'")),
        ("http-request add-header|http-request del-header|http-request replace-header|http-request replace-path|\
          http-request replace-uri|http-request set-header|http-request set-method|http-request set-path|\
          http-request set-query|http-request set-uri", PROXY, Refused("requests go nowhere, nothing would see the change")),
        ("http-request silent-drop", PROXY, Refused("it needs TCP_REPAIR; use 'reject'")),
        ("http-request wait-for-body", PROXY, Refused("bodies are not kept")),
        ("id", SERVES, Refused("proxies are numbered in their order")),
        ("option accept-invalid-http-request", PROXY, Refused("requests are parsed strictly")),
        ("option h1-case-adjust-bogus-client|option http-use-proxy-header|option socket-stats", PROXY,
            Refused("nothing here can do it")),
        ("tcp-request|tcp-response", PROXY, Refused("only HTTP is inspected")),
        ("unique-id-format|unique-id-header", PROXY, Refused("requests carry no unique id")),
        // rules
        ("http-request allow", SERVES, Set(|p, w| p.rule(w, Action::Allow))),
        ("http-request auth", SERVES, Set(|p, w| {
            let realm = if w.take("realm") { w.text("a realm")? } else { p.proxy().name };
            p.answer(w, Reply::challenge(realm), Action::Return)
        })),
        ("http-request deny", SERVES, Set(|p, w| { let reply = p.reply(w, 403)?; p.answer(w, reply, Action::Deny) })),
        ("http-request redirect", SERVES, Set(|p, w| { let reply = p.redirection(w)?; p.answer(w, reply, Action::Return) })),
        ("http-request reject", SERVES, Set(|p, w| p.rule(w, Action::Reject))),
        ("http-request return", SERVES, Set(|p, w| { let reply = p.reply(w, 200)?; p.answer(w, reply, Action::Return) })),
        ("http-request tarpit", SERVES, Set(|p, w| { let reply = p.reply(w, 500)?; p.answer(w, reply, Action::Tarpit) })),
        ("http-request use-service", SERVES, Set(|p, w| match w.need("a service")? {
            b"prometheus-exporter" => p.rule(w, Action::Metrics),
            other => Err(bad(other, "is no service here : prometheus-exporter is")),
        })),
        ("redirect", SERVES, Set(|p, w| {
            let mut reply = p.redirection(w)?;
            reply.prepare();
            let condition = p.condition(w)?;
            p.proxy().redirects.push(Rule { action: Action::Return(reply), condition });
            Ok(())
        })),
        // statistics: each of these words implies 'enable'
        ("stats auth", PROXY, Set(|p, w| {
            let word = w.need("user:password")?;
            let (user, password) = http::split_at_byte(word, b':');
            p.stats().users.push((user, password));
            // the word holds a password: it is not shown
            if user.is_empty() || !word.contains(&b':') { Err(cat!("'stats auth' needs 'user:password'")) } else { Ok(()) }
        })),
        ("stats enable", PROXY, Set(|p, _| { p.stats(); Ok(()) })),
        ("stats hide-version", PROXY, Set(|p, _| { p.stats().hide_version = true; Ok(()) })),
        ("stats http-request", SERVES, Set(stats_rule)),
        ("stats realm", PROXY, Set(|p, w| { p.stats().realm = w.text("a realm")?; Ok(()) })),
        ("stats refresh", PROXY, Set(|p, w| { p.stats().refresh = w.time("s")?.map_or(0, |ms| ms.div_ceil(1000)); Ok(()) })),
        ("stats scope", PROXY, Set(|p, w| { let name = w.need("a name")?; p.stats().scope.push(name); Ok(()) })),
        ("stats show-desc", PROXY, Set(|p, w| {
            p.stats().description = Some(if w.0.is_empty() { p.global.description } else { w.all()? });
            Ok(())
        })),
        ("stats show-legends", PROXY, Set(|p, _| { p.stats().legends = true; Ok(()) })),
        ("stats show-node", PROXY, Set(|p, w| {
            p.stats().node = Some(if w.0.is_empty() { p.global.node } else { w.text("a name")? });
            Ok(())
        })),
        ("stats uri", PROXY, Set(|p, w| { p.stats().uri = w.need("a URI")?; Ok(()) })),
        // whole sections that are refused; their lines are passed over
        ("backend|fcgi-app|mailers|resolvers", ANY, Refused(NO_SERVERS)),
        ("cache|peers", ANY, Refused(NO_STATE)),
        ("http-errors|log-forward|program|ring|crt-list", ANY, Refused("this section is not supported")),
        (".if|.elif|.else|.endif|.notice|.warning|.alert|.diag", ANY, Refused("macros are not supported")),
    ];

    const SECTIONS: [&str; 5] = ["global", "defaults", "frontend", "listen", "userlist"];

    fn names(keyword: &'static Keyword) -> impl Iterator<Item = &'static str> {
        keyword.0.split('|')
    }

    /// The table as text, for `-vv` and for the README.
    pub fn support() -> Text {
        let mut text = cat!("Sections: ", SECTIONS.join(", "), "\n");
        type Belongs = fn(&Fate) -> bool;
        let fates: [(&str, Belongs); 3] = [
            ("Supported", |fate| !matches!(fate, Ignored | Refused(_) | Time(UNUSED))),
            ("Accepted without an effect", |fate| matches!(fate, Ignored | Time(UNUSED))),
            ("Refused", |fate| matches!(fate, Refused(_))),
        ];
        for (title, belongs) in fates {
            let words: Vec<&str> = KEYWORDS.iter().filter(|word| belongs(&word.2)).flat_map(names).collect();
            text = cat!(text, title, ": ", words.join(", "), "\n");
        }
        let fetches: Vec<&str> = rules::FETCHES.iter().flat_map(|fetch| fetch.0.split(' ')).collect();
        let acls: Vec<&str> = rules::PREDEFINED.iter().map(|acl| acl.0).collect();
        cat!(text, "Fetches: ", fetches.join(", "), "\nPredefined ACLs: ", acls.join(", "), "\n")
    }

    /// Reads files one after the other into one [`Config`].
    pub struct Parser<'r> {
        report: &'r mut Report,
        global: Global,
        /// All proxies read so far, the defaults sections among them; the last
        /// is the one being read where the section is one.
        proxies: Vec<Proxy>,
        userlists: Vec<Userlist>,
        /// The section being read, as a bit; 0 for none or for a refused one.
        section: u8,
        refused: bool,
        file: Text,
        line: u32,
    }

    impl<'r> Parser<'r> {
        pub fn new(report: &'r mut Report) -> Self {
            let global = Global { bufsize: 16_384, maxrewrite: 1024, node: sys::node(), ..Global::default() };
            let (proxies, userlists) = (Vec::new(), Vec::new());
            Self { report, global, proxies, userlists, section: 0, refused: false, file: b"", line: 0 }
        }

        /// An error that belongs to no line.
        pub fn fatal(&mut self, text: Text) {
            self.report.errors.push(text);
        }

        fn at(&self) -> Text {
            cat!("parsing [", self.file, ":", itoa::Buffer::new().format(self.line), "] : ")
        }

        fn is_global(&self) -> bool {
            self.section == GLOBAL
        }

        /// Reads one file. Errors go to the report, reading goes on.
        pub fn parse(&mut self, file: Text, text: Text) {
            (self.file, self.line, self.section, self.refused) = (file, 0, 0, false);
            if text.len() > MAX_FILE {
                return self.fatal(bad(file, "is larger than 256 KiB"));
            }
            for line in text.split_inclusive(|&byte| byte == b'\n') {
                self.line += 1;
                let answer = match line.strip_suffix(b"\n") {
                    None => Err(cat!("the last line has no line feed at its end, the file may be cut off")),
                    Some(line) => {
                        words(line.strip_suffix(b"\r").unwrap_or(line)).and_then(|words| self.statement(&words))
                    }
                };
                if let Err(why) = answer
                    && self.report.errors.len() < MAX_ERRORS
                {
                    self.fatal(cat!(self.at(), why));
                }
            }
        }

        /// Applies one line.
        fn statement(&mut self, words: &[Text]) -> Answer {
            let Some(&first) = words.first() else { return Ok(()) };
            if SECTIONS.iter().any(|name| name.as_bytes() == first) {
                return self.open(first, &mut Words(&words[1..]));
            }
            let negated = first == b"no" && words.len() > 2 && words[1] == b"option";
            if first == b"no" && words.get(1) == Some(&&b"log"[..]) && self.section & PROXY != 0 {
                self.proxy().targets.clear();
                self.proxy().flags &= !LOG_GLOBAL;
                return Ok(());
            }
            let words = &words[usize::from(negated)..];
            let first = words[0];
            let both = cat!(first, " ", words.get(1).unwrap_or(&&b""[..]));
            let find = |name: &[u8], here: u8| {
                let mut known = KEYWORDS.iter().filter(|word| word.1 & here != 0);
                known.find(|word| names(word).any(|word| word.as_bytes() == name))
            };
            let found = [(both, 2), (first, 1)].into_iter().find_map(|(name, length)| {
                find(name, self.section).or_else(|| find(name, 0xff)).map(|word| (word, name, length))
            });
            let Some((keyword, name, length)) = found.filter(|found| !self.refused || found.0.1 == ANY) else {
                return if self.refused { Ok(()) } else { Err(self.unknown(first, both)) };
            };
            if keyword.1 & self.section == 0 && keyword.1 != ANY {
                return Err(bad(name, "does not stand in this section"));
            }
            let mut rest = Words(&words[length..]);
            match &keyword.2 {
                Set(apply) => apply(self, &mut rest)?,
                Flag(on, off) => {
                    let (on, off) = if negated { (*off, *on) } else { (*on, *off) };
                    let flags = &mut self.proxy().flags;
                    *flags = *flags & !off | on;
                }
                Time(place) => {
                    let time = rest.time("ms").map_err(|why| cat!("'", name, "' : ", why))?;
                    match *place {
                        HARD_STOP => self.global.hard_stop = time,
                        UNUSED => self.ignored(name),
                        place => self.proxy().timeouts[place] = time,
                    }
                }
                Ignored => {
                    rest.0 = &[];
                    self.ignored(name);
                }
                Refused(why) => {
                    self.refused = keyword.1 == ANY && first[0] != b'.';
                    return Err(cat!("'", name, "' is not supported : ", why));
                }
            }
            rest.next().map_or(Ok(()), |word| Err(cat!("unexpected '", word, "' after '", name, "'")))
        }

        fn ignored(&mut self, name: Text) {
            self.report.notices.push(cat!(self.at(), "'", name, "' is accepted and has no effect here"));
        }

        /// What to say of an unknown word: with the nearest known one.
        fn unknown(&self, first: Text, both: Text) -> Text {
            let group = cat!(first, " ");
            let grouped = KEYWORDS.iter().flat_map(names).any(|name| name.as_bytes().starts_with(group));
            let word = if grouped { both } else { first };
            let mut near = (usize::MAX, "");
            for name in KEYWORDS.iter().filter(|word| word.1 & self.section != 0).flat_map(names).chain(SECTIONS) {
                // against an ungrouped word, only the first word of a name counts
                let name = if grouped { name } else { name.split(' ').next().unwrap_or(name) };
                let far = distance(word, name.as_bytes());
                near = if far < near.0 { (far, name) } else { near };
            }
            let hint = if near.0 <= 1 + word.len() / 4 { ["; did you mean '", near.1, "' ?"] } else { [""; 3] };
            cat!("unknown keyword '", word, "'", hint.concat())
        }

        /// Opens a section.
        fn open(&mut self, section: Text, words: &mut Words) -> Answer {
            self.refused = false;
            let (kind, bit) = match section {
                b"global" => {
                    self.section = GLOBAL;
                    return Ok(());
                }
                b"defaults" => (Kind::Defaults, DEFAULTS),
                b"listen" => (Kind::Listen, LISTEN),
                b"frontend" => (Kind::Frontend, FRONTEND),
                _ => (Kind::Defaults, USERLIST),
            };
            (self.section, self.refused) = (0, true);
            let name = if bit == DEFAULTS && words.0.is_empty() { b"" } else { words.need("a name")? };
            let fine = |&byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
            if name.len() > MAX_NAME || !name.iter().all(fine) {
                return Err(bad(name, "is no name : letters, digits and '-_.:', at most 64"));
            }
            if bit == USERLIST {
                self.userlists.push(Userlist { name, users: Vec::new() });
            } else {
                let defaults = |proxy: &&Proxy| proxy.kind == Kind::Defaults;
                let mut base = self.proxies.iter().rfind(defaults).filter(|_| kind != Kind::Defaults);
                if words.take("from") {
                    let wanted = words.need("the name of a defaults section")?;
                    base = self.proxies.iter().find(|proxy| defaults(proxy) && proxy.name == wanted);
                    base.ok_or_else(|| bad(wanted, "is no defaults section that stands before this line"))?;
                }
                if let Some(word) = words.next() {
                    return Err(bad(word, "is unexpected : 'from' and a name may stand here, addresses go to 'bind'"));
                }
                let at = cat!(self.file, ":", itoa::Buffer::new().format(self.line));
                let proxy = Proxy { name, kind, at, ..base.cloned().unwrap_or_default() };
                let same =
                    self.proxies.iter().find(|other| kind != Kind::Defaults && !defaults(other) && other.name == name);
                let clash = same.map(|other| cat!("the name '", name, "' is taken by the proxy at [", other.at, "]"));
                self.proxies.push(proxy);
                if self.proxies.len() > MAX_PROXIES {
                    return Err(cat!("there are more than 128 proxies and defaults"));
                }
                if let Some(why) = clash {
                    self.fatal(cat!(self.at(), why));
                }
            }
            (self.section, self.refused) = (bit, false);
            Ok(())
        }

        /// The proxy being read. Only called where the section is one.
        fn proxy(&mut self) -> &mut Proxy {
            if self.proxies.is_empty() {
                self.proxies.push(Proxy::default());
            }
            let last = self.proxies.len() - 1;
            &mut self.proxies[last]
        }

        fn stats(&mut self) -> &mut Stats {
            let fresh = || Stats { uri: b"/haproxy?stats", realm: b"HAProxy Statistics", ..Stats::default() };
            self.proxy().stats.get_or_insert_with(fresh)
        }

        /// Completes what was read.
        pub fn finish(mut self) -> Config {
            if self.global.bufsize < self.global.maxrewrite + 2048 {
                self.fatal(cat!("'tune.maxrewrite' leaves less than 2048 bytes of 'tune.bufsize' for a request"));
            }
            self.proxies.retain(|proxy| proxy.kind != Kind::Defaults);
            for (at, proxy) in self.proxies.iter_mut().enumerate() {
                proxy.id = at as u32 + 1;
                proxy.finish(&self.global, &self.userlists, self.report);
            }
            Config { global: self.global, proxies: self.proxies, userlists: self.userlists }
        }

        // ---- rules -----------------------------------------------------------

        /// Compiles the condition that ends a line, if there is one.
        fn condition(&mut self, words: &mut Words) -> Result<Option<Condition>, Text> {
            if !matches!(words.0.first(), Some(&(b"if" | b"unless"))) {
                return Ok(None);
            }
            let mut acls = std::mem::take(&mut self.proxy().acls);
            let condition = Condition::compile(std::mem::take(&mut words.0), &mut acls, &self.userlists);
            self.proxy().acls = acls;
            condition.map(Some)
        }

        /// Adds an http-request rule with the condition that follows.
        fn rule(&mut self, words: &mut Words, action: Action) -> Answer {
            let condition = self.condition(words)?;
            let proxy = self.proxy();
            proxy.rules.push(Rule { action, condition });
            if proxy.rules.len().max(proxy.acls.len()) > MAX_EACH {
                Err(cat!("more than 1024 rules or ACLs"))
            } else {
                Ok(())
            }
        }

        fn answer(&mut self, words: &mut Words, mut reply: Reply, action: fn(Reply) -> Action) -> Answer {
            self.fits(&mut reply)?;
            self.rule(words, action(reply))
        }

        /// Prepares a reply, which has to fit into a buffer.
        fn fits(&self, reply: &mut Reply) -> Answer {
            let fits = reply.prepare() + HEAD_ROOM <= self.global.bufsize;
            if fits { Ok(()) } else { Err(cat!("the answer is too large for 'tune.bufsize'")) }
        }

        fn format(&self, text: Text) -> Result<Format, Text> {
            Format::compile(text, false, &self.userlists)
        }

        /// A format for a header field, which is one line.
        fn field(&self, text: Text) -> Result<Format, Text> {
            let breaks = text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
            if breaks { Err(cat!("a header field cannot hold a line end")) } else { self.format(text) }
        }

        /// Reads `[status N] [content-type T] [string S | ...] [hdr N F]*`.
        /// Without a payload an error's own text is taken.
        fn reply(&mut self, words: &mut Words, status: u16) -> Result<Reply, Text> {
            let (mut status, mut body, mut content_type, mut whole) = (status, None, None, None);
            let mut fields = Vec::new();
            while let Some(&word) = words.0.first()
                && !matches!(word, b"if" | b"unless")
            {
                words.next();
                match word {
                    b"status" | b"deny_status" => status = words.number(200, 599)? as u16,
                    b"content-type" => content_type = Some(self.field(words.need("a type")?)?),
                    b"string" => body = Some(Format::literal(words.need("a text")?)),
                    b"file" => body = Some(Format::literal(sys::read_file(words.need("a file")?)?)),
                    b"lf-string" => body = Some(self.format(words.need("a format")?)?),
                    b"lf-file" => body = Some(self.format(sys::read_file(words.need("a file")?)?)?),
                    b"errorfile" => whole = Some(Reply::from_file(sys::read_file(words.need("a file")?)?)?),
                    b"hdr" => {
                        let name = words.need("a header name")?;
                        if name.is_empty() || !name.iter().all(|&byte| http::is_token(byte)) {
                            return Err(bad(name, "is no header name"));
                        }
                        fields.push((cat!(name.to_ascii_lowercase()), self.field(words.need("a header value")?)?));
                    }
                    _ => return Err(bad(word, "is unexpected here")),
                }
            }
            if content_type.is_some() && body.is_none() {
                return Err(cat!("'content-type' needs a payload"));
            }
            let own = |reply: &&Reply| reply.status == status;
            let mut reply = match (whole, body) {
                (Some(whole), _) => whole,
                (None, Some(body)) => Reply::new(status, body),
                // a return without payload is empty, an error has its own text
                (None, None) if status < 400 => Reply::new(status, Format::default()),
                (None, None) => {
                    self.proxy().errors.iter().rfind(own).cloned().unwrap_or_else(|| Reply::standard(status))
                }
            };
            reply.after.extend(content_type.map(|content_type| (&b"content-type"[..], content_type)));
            reply.before.append(&mut fields);
            Ok(reply)
        }

        /// Reads `location|prefix|scheme U [code N] [set-cookie C] [clear-cookie C] [drop-query]`.
        fn redirection(&mut self, words: &mut Words) -> Result<Reply, Text> {
            let (mut status, mut cookie, mut target) = (302, None, None);
            let mut path: Text = b"pathq";
            while let Some(&word) = words.0.first()
                && !matches!(word, b"if" | b"unless")
            {
                words.next();
                match word {
                    b"drop-query" => path = b"path",
                    b"location" | b"prefix" | b"scheme" => target = Some((word, words.need("a URL")?)),
                    b"code" => status = words.number(301, 308)? as u16,
                    b"set-cookie" => cookie = Some(cat!(words.need("a cookie")?, "; path=/;")),
                    b"clear-cookie" => cookie = Some(cat!(words.need("a cookie")?, "; path=/; Max-Age=0;")),
                    _ => return Err(bad(word, "is unexpected in a redirect")),
                }
            }
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Err(cat!("the code of a redirect is 301, 302, 303, 307 or 308"));
            }
            let location = match target.ok_or_else(|| cat!("'location', 'prefix' or 'scheme' is missing"))? {
                (b"location", value) => self.field(value)?,
                (b"prefix", b"/") => Format::default().then(path)?,
                (b"prefix", value) => self.field(value)?.then(path)?,
                (_, value) => self.field(cat!(value, "://"))?.then(b"hdr(host)")?.then(path)?,
            };
            Ok(Reply::redirect(status, location, cookie))
        }
    }

    /// `stats http-request allow|deny|auth [realm R] [if|unless ...]`
    fn stats_rule(parser: &mut Parser, words: &mut Words) -> Answer {
        let action = match words.need("an action")? {
            b"allow" => Action::Allow,
            b"deny" => Action::Deny(Reply::standard(403)),
            b"auth" if words.take("realm") => Action::Return(Reply::challenge(words.text("a realm")?)),
            b"auth" => Action::Return(Reply::challenge(parser.stats().realm)),
            other => return Err(bad(other, "is no action of the statistics : allow, deny or auth")),
        };
        let condition = parser.condition(words)?;
        parser.stats().rules.push(Rule { action, condition });
        Ok(())
    }

    /// `user` of `global` names an account, that of a `userlist` a person.
    fn user(parser: &mut Parser, words: &mut Words) -> Answer {
        let name = words.need("a name")?;
        if parser.is_global() {
            parser.ignored(b"user");
            return Ok(());
        }
        match words.need("'insecure-password'")? {
            b"insecure-password" => {
                let password = words.need("a password")?;
                parser.userlists.iter_mut().next_back().into_iter().for_each(|list| list.users.push((name, password)));
                words.0 = &[];
                Ok(())
            }
            _ => Err(cat!("only 'insecure-password' is supported : hashed passwords need crypt(3)")),
        }
    }

    fn acl(parser: &mut Parser, words: &mut Words) -> Answer {
        let name = words.need("a name")?;
        let test = rules::Test::compile(std::mem::take(&mut words.0), &parser.userlists)?;
        let acls = &mut parser.proxy().acls;
        match acls.iter_mut().find(|acl| acl.name == name) {
            Some(acl) => acl.tests.push(test),
            None => acls.push(Acl { name, tests: vec![test] }),
        }
        Ok(())
    }

    /// `log global`, or `log stdout|stderr|fd@N format raw|short facility [level]`.
    fn log(parser: &mut Parser, words: &mut Words) -> Answer {
        const FACILITIES: &str = "kern user mail daemon auth syslog lpr news uucp cron auth2 ftp ntp audit alert cron2 \
                                  local0 local1 local2 local3 local4 local5 local6 local7";
        const LEVELS: &str = "emerg alert crit err warning notice info debug";
        if !parser.is_global() && words.take("global") {
            parser.proxy().flags |= LOG_GLOBAL;
            return Ok(());
        }
        let descriptor = match words.need("a target")? {
            b"stdout" => 1,
            b"stderr" => 2,
            word => {
                let digits = word.strip_prefix(b"fd@").and_then(|digits| number(digits, 0, 1023));
                digits.ok_or_else(|| bad(word, "is no log target that is supported : stdout, stderr or fd@N"))? as i32
            }
        };
        let format = if words.take("format") { words.need("a format")? } else { b"raw" };
        if !matches!(format, b"raw" | b"short") {
            return Err(bad(format, "is no log format that is supported : raw or short"));
        }
        let place = |word: Text, names: &str| names.split(' ').position(|name| name.as_bytes() == word);
        let facility = words.need("a facility")?;
        let facility = place(facility, FACILITIES).ok_or_else(|| bad(facility, "is no log facility"))?;
        let mut level = 7;
        for at in 0..2 {
            if let Some(word) = words.next() {
                let found = place(word, LEVELS).ok_or_else(|| bad(word, "is no log level"))?;
                level = if at == 0 { found } else { level };
            }
        }
        let target =
            Target { descriptor, priority: (format == b"short").then_some(facility as u8 * 8 + 6), wanted: level >= 6 };
        let targets = if parser.is_global() { &mut parser.global.targets } else { &mut parser.proxy().targets };
        targets.push(target);
        Ok(())
    }

    fn bind(parser: &mut Parser, words: &mut Words) -> Answer {
        const ALONE: &str = "tfo defer-accept v4v6";
        const VALUED: &str = "name id backlog nice process thread shards tcp-ut mss";
        const TLS: &str = "ssl crt crt-list ca-file alpn npn verify";
        let addresses = words.need("an address and a port")?;
        for address in addresses.split(|&byte| byte == b',') {
            bind_address(address, &mut parser.proxy().binds)?;
        }
        while let Some(option) = words.next() {
            let among = |names: &str| names.split(' ').any(|name| name.as_bytes() == option);
            if among(VALUED) || option == b"proto" && words.0.first() == Some(&&b"h1"[..]) {
                words.need("a value")?;
            } else if among(TLS) {
                return Err(bad(option, "of 'bind' is not supported : there is no TLS"));
            } else if !among(ALONE) {
                return Err(bad(option, "is no option of 'bind' that is supported"));
            }
        }
        if parser.proxy().binds.len() > MAX_EACH { Err(cat!("there are more than 1024 addresses")) } else { Ok(()) }
    }

    /// One address: `*:80`, `:80`, `1.2.3.4:80-82`, `[::1]:80`, `:::80`,
    /// `ipv4@`, `ipv6@`, `fd@3`.
    fn bind_address(text: Text, binds: &mut Vec<Bind>) -> Answer {
        if let Some(digits) = text.strip_prefix(b"fd@") {
            let descriptor = number(digits, 3, 1 << 20).ok_or_else(|| bad(text, "is no descriptor"))?;
            binds.push(Bind::Descriptor(descriptor as i32));
            return Ok(());
        }
        let v6 = text.starts_with(b"ipv6@");
        let rest = text.strip_prefix(b"ipv6@").or(text.strip_prefix(b"ipv4@")).unwrap_or(text);
        let colon =
            rest.iter().rposition(|&byte| byte == b':').filter(|&at| at + 1 < rest.len() && !rest.ends_with(b"]"));
        let (host, ports) = rest.split_at(colon.ok_or_else(|| bad(text, "has no port"))?);
        let bare = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
        let ip = match bare {
            b"" | b"*" if v6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            b"" | b"*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            b"localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => rules::parse_ip(bare).ok_or_else(|| bad(host, "is no address"))?,
        };
        let (low, high) = http::split_at_byte(&ports[1..], b'-');
        let port = |text: Text| number(text, 1, 65_535).ok_or_else(|| bad(text, "is no port : from 1 to 65535"));
        let low = port(low)?;
        let high = if ports.contains(&b'-') { port(high)? } else { low };
        if high < low || high - low >= MAX_EACH as u64 {
            return Err(bad(ports, "is no range of at most 1024 ports"));
        }
        binds.extend((low..=high).map(|port| {
            let shown = cat!(host, ":", itoa::Buffer::new().format(port));
            Bind::Address(SocketAddr::new(ip, port as u16), shown)
        }));
        Ok(())
    }

    // ---- words and values --------------------------------------------------

    /// Splits one line into words: quotes, escapes, variables, comments.
    fn words(line: Text) -> Result<Vec<Text>, Text> {
        if line.len() > MAX_LINE || line.contains(&0) {
            return Err(cat!("the line is longer than 2048 bytes, or holds a NUL"));
        }
        let mut words: Vec<Text> = Vec::new();
        let mut word: Vec<u8> = Vec::new();
        let (mut quote, mut begun) = (0, false);
        let mut rest = line;
        loop {
            let byte = rest.first().copied().unwrap_or(b'#');
            if quote == 0 && matches!(byte, b' ' | b'\t' | b'#') {
                if begun {
                    words.push(cat!(std::mem::take(&mut word)));
                }
                begun = false;
                if byte == b'#' {
                    break;
                }
            } else if rest.is_empty() {
                return Err(cat!("a quote is not closed"));
            } else {
                begun = true;
                let used = match byte {
                    b'"' | b'\'' if quote == 0 => {
                        quote = byte;
                        0
                    }
                    _ if byte == quote => {
                        quote = 0;
                        0
                    }
                    b'\\' if quote != b'\'' => escape(&rest[1..], &mut word)?,
                    b'$' if quote == b'"' => variable(&rest[1..], &mut word)?,
                    _ => {
                        word.push(byte);
                        0
                    }
                };
                rest = &rest[used..];
            }
            rest = &rest[1..];
        }
        if words.len() > MAX_WORDS { Err(cat!("the line has more than 64 words")) } else { Ok(words) }
    }

    /// Adds what a backslash and the bytes behind it stand for; how many of
    /// these were used.
    fn escape(rest: &[u8], word: &mut Vec<u8>) -> Result<usize, Text> {
        let (byte, used) = match rest {
            [byte @ (b' ' | b'#' | b'\\' | b'\'' | b'"' | b'$'), ..] => (*byte, 1),
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b't', ..] => (b'\t', 1),
            [b'x', high, low, ..] => {
                let digit = |byte: &u8| {
                    char::from(*byte).to_digit(16).ok_or_else(|| cat!("'\\x' needs two hexadecimal digits"))
                };
                ((digit(high)? * 16 + digit(low)?) as u8, 3)
            }
            _ => (b'\\', 0),
        };
        word.push(byte);
        Ok(used)
    }

    /// Adds what `${NAME}`, `${NAME-default}` or `$NAME` behind its `$` stands for.
    fn variable(rest: Text, word: &mut Vec<u8>) -> Result<usize, Text> {
        let in_name = |&&byte: &&u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let (name, default, used) = match rest.strip_prefix(b"{") {
            Some(inside) => {
                let end = inside.iter().position(|&byte| byte == b'}').ok_or_else(|| cat!("'${' without its '}'"))?;
                let (name, default) = http::split_at_byte(&inside[..end], b'-');
                (name, default, end + 2)
            }
            None => {
                let length = rest.iter().take_while(in_name).count();
                (&rest[..length], &b""[..], length)
            }
        };
        if name.is_empty() || name.iter().filter(in_name).count() < name.len() {
            return Err(cat!("'$' is followed by no name of a variable"));
        }
        word.extend_from_slice(sys::variable(name).unwrap_or(default));
        Ok(used)
    }

    /// A decimal number within bounds.
    pub fn number(text: &[u8], least: u64, most: u64) -> Option<u64> {
        let digit = |sum: u64, byte: &u8| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        };
        let number = text.iter().try_fold(0, digit).filter(|_| !text.is_empty())?;
        (least..=most).contains(&number).then_some(number)
    }

    fn shown(text: Text) -> Result<Text, Text> {
        if text.len() <= MAX_SHOWN { Ok(text) } else { Err(bad(text, "is longer than 200 bytes")) }
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
/// evaluated on every request without allocating. Calls http, out and, to read
/// a file of patterns, sys.
mod rules {
    use crate::http::{self, Request};
    use crate::out::{Out, Text};
    use std::net::{IpAddr, SocketAddr};

    /// Longest `user:password` of a request, decoded, in bytes.
    const MAX_CREDENTIALS: usize = 192;

    /// Wall-clock time, read once per turn of the loop.
    #[derive(Clone, Copy, Default)]
    pub struct Wall {
        pub seconds: u64,
        pub millis: u32,
    }

    /// What became of a request: for logs and for format strings.
    #[derive(Clone, Copy, Default)]
    pub struct Outcome {
        /// -1 where nothing was answered.
        pub status: i32,
        pub bytes_in: u64,
        pub bytes_out: u64,
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
        pub frontend: Text,
        pub peer: SocketAddr,
        pub local: SocketAddr,
        pub started: Wall,
        pub outcome: Outcome,
        /// Connections of the process and of this frontend.
        pub connections: (u64, u64),
        /// Requests that this process has seen.
        pub requests: u64,
        pub userlists: &'a [Userlist],
        pub node: Text,
    }

    /// A `userlist` section with its clear-text passwords.
    pub struct Userlist {
        pub name: Text,
        pub users: Vec<(Text, Text)>,
    }

    // ---- fetches -----------------------------------------------------------

    pub enum Sample<'a> {
        Bool(bool),
        Int(i64),
        Ip(IpAddr),
        Text(&'a [u8]),
    }
    use Sample::{Bool, Int, Ip};

    /// Shows each sample to a visitor until it says true; tells whether it did.
    type See<'s, 'a> = &'s mut dyn FnMut(Sample<'a>) -> bool;
    type Samples = for<'s, 'a> fn(&Scene<'a>, Text, See<'s, 'a>) -> bool;

    /// A fetch and its argument.
    #[derive(Clone, Copy)]
    pub struct Fetch {
        samples: Samples,
        argument: Text,
    }

    /// Names of a fetch, how it is matched where nothing else is said, whether
    /// it needs an argument, whether HAProxy has ACL suffixes (`_beg`...) for
    /// it, and the fetch itself.
    pub type FetchLine = (&'static str, How, bool, bool, Samples);

    #[rustfmt::skip]
    pub const FETCHES: &[FetchLine] = &[
        ("always_false ssl_fc", How::Bool, false, false, |_, _, see| see(Bool(false))),
        ("always_true", How::Bool, false, false, |_, _, see| see(Bool(true))),
        ("dst", How::Ip, false, false, |scene, _, see| see(Ip(scene.local.ip().to_canonical()))),
        ("dst_port", How::Int, false, false, |scene, _, see| see(Int(scene.local.port().into()))),
        ("fe_name", How::Exact, false, false, |scene, _, see| see(Sample::Text(scene.frontend))),
        ("hdr req.hdr", How::Exact, true, true, |scene, name, see| {
            scene.request.is_some_and(|r| r.fields(name).flat_map(http::list).any(|value| see(Sample::Text(value))))
        }),
        ("hdr_cnt req.hdr_cnt", How::Int, true, false, |scene, name, see| {
            see(Int(scene.request.map_or(0, |r| r.fields(name).flat_map(http::list).count() as i64)))
        }),
        ("http_auth", How::Bool, true, false, |scene, name, see| {
            let list = scene.userlists.iter().find(|list| list.name == name);
            see(Bool(list.zip(scene.request).is_some_and(|(list, request)| authenticated(request, &list.users))))
        }),
        ("method", How::Exact, false, false, |scene, _, see| part(scene, see, |r| r.method)),
        ("path", How::Exact, false, true, |scene, _, see| part(scene, see, |r| r.path())),
        ("pathq", How::Exact, false, false, |scene, _, see| part(scene, see, |r| r.local())),
        ("query", How::Exact, false, false, |scene, _, see| part(scene, see, |r| r.query())),
        ("req.ver req_ver", How::Exact, false, false, |scene, _, see| part(scene, see, |r| &r.version[5..])),
        ("src", How::Ip, false, false, |scene, _, see| see(Ip(scene.peer.ip().to_canonical()))),
        ("src_port", How::Int, false, false, |scene, _, see| see(Int(scene.peer.port().into()))),
        ("url", How::Exact, false, true, |scene, _, see| part(scene, see, |r| r.target)),
        ("url_param urlp", How::Exact, true, true, |scene, name, see| {
            let Some(request) = scene.request else { return false };
            request.query().split(|&byte| byte == b'&').any(|pair| {
                let (key, value) = http::split_at_byte(pair, b'=');
                key == name && see(Sample::Text(value))
            })
        }),
    ];

    /// ACLs that are there without being declared.
    pub const PREDEFINED: &[(&str, &str)] = &[
        ("FALSE", "always_false"),
        ("TRUE", "always_true"),
        ("HTTP_1.0", "req_ver 1.0"),
        ("HTTP_1.1", "req_ver 1.1"),
        ("LOCALHOST", "src 127.0.0.1/8 ::1"),
        ("METH_CONNECT", "method CONNECT"),
        ("METH_DELETE", "method DELETE"),
        ("METH_GET", "method GET HEAD"),
        ("METH_HEAD", "method HEAD"),
        ("METH_OPTIONS", "method OPTIONS"),
        ("METH_POST", "method POST"),
        ("METH_PUT", "method PUT"),
        ("METH_TRACE", "method TRACE"),
    ];

    fn part<'s, 'a>(scene: &Scene<'a>, see: See<'s, 'a>, of: fn(&'a Request<'a, 'a>) -> &'a [u8]) -> bool {
        scene.request.is_some_and(|request| see(Sample::Text(of(request))))
    }

    impl Fetch {
        /// Compiles `name`, `name(argument)` or `name_suffix(argument)`; gives
        /// how it is matched too, and whether a suffix said so.
        fn compile(word: Text, lists: &[Userlist]) -> Result<(Self, How, bool), Text> {
            let (name, rest) = http::split_at_byte(word, b'(');
            let argument = rest.strip_suffix(b")").unwrap_or(b"");
            if name.len() < word.len() && !rest.ends_with(b")") || argument.contains(&b',') {
                return Err(bad(word, "is not supported : one argument in '()', and no converters"));
            }
            let named = |line: &&FetchLine, name: &[u8]| line.0.split(' ').any(|word| word.as_bytes() == name);
            let (line, how) = match FETCHES.iter().find(|line| named(line, name)) {
                Some(line) => (line, None),
                None => {
                    let cut = name.iter().rposition(|&byte| byte == b'_').unwrap_or(0);
                    let line = FETCHES.iter().find(|line| line.3 && named(line, &name[..cut]));
                    let how = How::named(&name[name.len().min(cut + 1)..]);
                    (line.filter(|_| how.is_some()).ok_or_else(|| bad(name, "is an unknown fetch or match"))?, how)
                }
            };
            if line.2 == argument.is_empty() {
                return Err(bad(word, if line.2 { "needs an argument in '()'" } else { "takes no argument" }));
            }
            if name == b"http_auth" && !lists.iter().any(|list| list.name == argument) {
                return Err(bad(argument, "is no userlist that stands before this line"));
            }
            Ok((Self { samples: line.4, argument }, how.unwrap_or(line.1), how.is_some()))
        }

        /// Writes the sample; of several, the last, as HAProxy does.
        fn write(&self, scene: &Scene, out: &mut Out) {
            let mark = out.len();
            (self.samples)(scene, self.argument, &mut |sample| {
                out.truncate(mark);
                match sample {
                    Bool(value) => drop(out.num(u8::from(value))),
                    Int(value) => drop(out.num(value)),
                    Ip(ip) => address(ip, out),
                    Sample::Text(text) => drop(out.put(text)),
                }
                false
            });
        }
    }

    /// Whether the request carries the name and password of one of `users`
    /// (RFC 7617). Every password is compared in full: time tells nothing.
    pub fn authenticated(request: &Request, users: &[(Text, Text)]) -> bool {
        let mut buffer = [0; MAX_CREDENTIALS];
        let (scheme, code) = http::split_at_byte(request.fields(b"authorization").next().unwrap_or(b""), b' ');
        let Some(credentials) = base64(code.trim_ascii(), &mut buffer) else { return false };
        let (user, password) = http::split_at_byte(credentials, b':');
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
    pub fn address(ip: IpAddr, out: &mut Out) {
        match ip.to_canonical() {
            IpAddr::V4(v4) => {
                for (at, octet) in v4.octets().into_iter().enumerate() {
                    out.put(if at == 0 { "" } else { "." }).num(octet);
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

    // ---- matches and conditions --------------------------------------------

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub enum How {
        Exact,
        Begins,
        Ends,
        Contains,
        /// A whole part between slashes.
        Directory,
        /// A whole part between dots, slashes, `?` and `:`.
        Domain,
        Length,
        Int,
        Ip,
        Found,
        Bool,
    }

    impl How {
        fn named(name: &[u8]) -> Option<Self> {
            Some(match name {
                b"str" => Self::Exact,
                b"beg" => Self::Begins,
                b"end" => Self::Ends,
                b"sub" => Self::Contains,
                b"dir" => Self::Directory,
                b"dom" => Self::Domain,
                b"len" => Self::Length,
                b"int" => Self::Int,
                b"ip" => Self::Ip,
                b"found" => Self::Found,
                b"bool" => Self::Bool,
                _ => return None,
            })
        }

        fn delimits(self, byte: u8) -> bool {
            matches!(byte, b'/' | b'?') || self == Self::Domain && matches!(byte, b'.' | b':')
        }
    }

    #[derive(Clone, Copy)]
    enum Pattern {
        Text(Text),
        Range(i64, i64),
        Net(IpAddr, u8),
    }

    /// One line of an ACL: a fetch and what to compare it with.
    #[derive(Clone)]
    pub struct Test {
        fetch: Fetch,
        how: How,
        fold_case: bool,
        patterns: Vec<Pattern>,
    }

    /// A named ACL, or an anonymous one between braces, whose name is empty.
    #[derive(Clone)]
    pub struct Acl {
        pub name: Text,
        pub tests: Vec<Test>,
    }

    /// `if` or `unless`, alternatives of terms that hold together.
    #[derive(Clone)]
    pub struct Condition {
        unless: bool,
        /// Each term: negated, and which ACL.
        any: Vec<Vec<(bool, usize)>>,
    }

    impl Test {
        /// Compiles `fetch [-i] [-m how] [-f file] [--] pattern...`.
        pub fn compile(words: &[Text], lists: &[Userlist]) -> Result<Self, Text> {
            let (&first, mut rest) = words.split_first().ok_or_else(|| cat!("a fetch is missing"))?;
            let (fetch, how, _) = Fetch::compile(first, lists)?;
            let mut test = Self { fetch, how, fold_case: false, patterns: Vec::new() };
            while let [flag @ [b'-', ..], after @ ..] = rest {
                rest = after;
                match (*flag, after) {
                    (b"-i", _) => test.fold_case = true,
                    (b"--", _) => break,
                    (b"-m", [how, after @ ..]) => {
                        test.how = How::named(how).ok_or_else(|| bad(how, "is no match that is supported"))?;
                        rest = after;
                    }
                    (b"-f", [file, after @ ..]) => {
                        let text = crate::sys::read_file(file)?;
                        let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
                        for line in lines.filter(|line| !line.is_empty() && line[0] != b'#') {
                            test.add(line, b"eq")?;
                        }
                        rest = after;
                    }
                    _ => return Err(bad(flag, "is no flag of an ACL that is supported")),
                }
            }
            let mut operator: Text = b"eq";
            for word in rest {
                match *word {
                    b"eq" | b"ge" | b"gt" | b"le" | b"lt" if matches!(test.how, How::Int | How::Length) => {
                        operator = word
                    }
                    _ => test.add(word, operator)?,
                }
            }
            if test.patterns.is_empty() && !matches!(test.how, How::Found | How::Bool) {
                return Err(bad(first, "has no pattern to match"));
            }
            Ok(test)
        }

        fn add(&mut self, text: Text, operator: Text) -> Result<(), Text> {
            let pattern = match self.how {
                How::Int | How::Length => range(text, operator),
                How::Ip => network(text),
                How::Bool | How::Found => None,
                How::Directory | How::Domain => {
                    let inner = |&byte: &u8| !self.how.delimits(byte);
                    let start = text.iter().position(inner).unwrap_or(text.len());
                    let end = text.iter().rposition(inner).map_or(start, |at| at + 1);
                    Some(Pattern::Text(&text[start..end]))
                }
                _ => Some(Pattern::Text(text)),
            };
            self.patterns.push(pattern.ok_or_else(|| bad(text, "is no pattern for this match"))?);
            Ok(())
        }

        fn holds(&self, scene: &Scene) -> bool {
            (self.fetch.samples)(scene, self.fetch.argument, &mut |sample| match (self.how, sample) {
                (How::Found, _) => true,
                (How::Bool, Bool(value)) => value,
                (How::Bool, Int(value)) => value != 0,
                (How::Bool, Sample::Text(text)) => integer(text).is_some_and(|value| value != 0),
                (_, Int(value)) => self.any(|pattern| in_range(pattern, value)),
                (_, Ip(ip)) => self.any(|pattern| in_network(pattern, ip)),
                (How::Int, Sample::Text(text)) => integer(text).is_some_and(|value| self.any(|p| in_range(p, value))),
                (How::Length, Sample::Text(text)) => self.any(|pattern| in_range(pattern, text.len() as i64)),
                (How::Ip, Sample::Text(text)) => parse_ip(text).is_some_and(|ip| self.any(|p| in_network(p, ip))),
                (_, Sample::Text(text)) => self.any(|pattern| self.text_matches(text, pattern)),
                (_, Bool(_)) => false,
            })
        }

        fn any(&self, matches: impl FnMut(&Pattern) -> bool) -> bool {
            self.patterns.iter().any(matches)
        }

        fn text_matches(&self, text: &[u8], pattern: &Pattern) -> bool {
            let Pattern::Text(pattern) = *pattern else { return false };
            let same = |part: &[u8]| if self.fold_case { part.eq_ignore_ascii_case(pattern) } else { part == pattern };
            let length = pattern.len();
            if text.len() < length {
                return false;
            }
            match self.how {
                How::Exact => same(text),
                How::Begins => same(&text[..length]),
                How::Ends => same(&text[text.len() - length..]),
                How::Contains => length == 0 || text.windows(length).any(same),
                _ => (0..=text.len() - length).any(|at| {
                    same(&text[at..at + length])
                        && (at == 0 || self.how.delimits(text[at - 1]))
                        && text.get(at + length).is_none_or(|&byte| self.how.delimits(byte))
                }),
            }
        }
    }

    /// `5`, `1:5`, or an operator and a number.
    fn range(text: &[u8], operator: Text) -> Option<Pattern> {
        let (low, high) = http::split_at_byte(text, b':');
        let low = integer(low)?;
        let high = if text.contains(&b':') { integer(high)? } else { low };
        Some(match operator {
            b"ge" => Pattern::Range(low, i64::MAX),
            b"gt" => Pattern::Range(low.saturating_add(1), i64::MAX),
            b"le" => Pattern::Range(i64::MIN, high),
            b"lt" => Pattern::Range(i64::MIN, high.saturating_sub(1)),
            _ => Pattern::Range(low, high),
        })
    }

    fn in_range(pattern: &Pattern, value: i64) -> bool {
        matches!(pattern, Pattern::Range(low, high) if (*low..=*high).contains(&value))
    }

    /// `address`, `address/bits`, or `address/mask` for IPv4.
    fn network(text: &[u8]) -> Option<Pattern> {
        let (address, bits) = http::split_at_byte(text, b'/');
        let ip = parse_ip(address)?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match (bits, parse_ip(bits)) {
            (b"", _) => most,
            (_, Some(IpAddr::V4(mask))) => u32::from(mask).leading_ones().into(),
            (digits, _) => integer(digits)?,
        };
        (0..=most).contains(&bits).then_some(Pattern::Net(ip, bits as u8))
    }

    fn in_network(pattern: &Pattern, ip: IpAddr) -> bool {
        let Pattern::Net(net, bits) = *pattern else { return false };
        let (net, ip, width) = match (net, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => (u32::from(net).into(), u32::from(ip).into(), 32),
            (IpAddr::V6(net), IpAddr::V6(ip)) => (u128::from(net), u128::from(ip), 128),
            _ => return false,
        };
        (net ^ ip).checked_shr(width - u32::from(bits)).is_none_or(|differ| differ == 0)
    }

    fn integer(text: &[u8]) -> Option<i64> {
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    pub fn parse_ip(text: &[u8]) -> Option<IpAddr> {
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    /// A message about one word.
    pub fn bad(word: &[u8], what: &str) -> Text {
        cat!("'", word, "' ", what)
    }

    impl Condition {
        /// Compiles `if|unless term...`; anonymous ACLs are added to `acls`.
        pub fn compile(words: &[Text], acls: &mut Vec<Acl>, lists: &[Userlist]) -> Result<Self, Text> {
            let (mut any, mut all) = (Vec::new(), Vec::new());
            let mut negate = false;
            let mut rest = &words[1..];
            while let Some((word, after)) = rest.split_first() {
                rest = after;
                let bangs = word.iter().take_while(|&&byte| byte == b'!').count();
                negate ^= bangs % 2 == 1;
                let acl = match &word[bangs..] {
                    b"" => continue,
                    b"or" | b"||" if !all.is_empty() => {
                        any.push(std::mem::take(&mut all));
                        continue;
                    }
                    b"{" => {
                        let end =
                            rest.iter().position(|word| *word == b"}").ok_or_else(|| cat!("'{' without its '}'"))?;
                        acls.push(Acl { name: b"", tests: vec![Test::compile(&rest[..end], lists)?] });
                        rest = &rest[end + 1..];
                        acls.len() - 1
                    }
                    name => find_acl(name, acls, lists)?,
                };
                all.push((negate, acl));
                negate = false;
            }
            if negate || all.is_empty() {
                return Err(bad(words[0], "is followed by no complete condition"));
            }
            any.push(all);
            Ok(Self { unless: words[0] == b"unless", any })
        }

        pub fn holds(&self, acls: &[Acl], scene: &Scene) -> bool {
            let term = |(negate, acl): &(bool, usize)| acls[*acl].tests.iter().any(|test| test.holds(scene)) != *negate;
            self.any.iter().any(|all| all.iter().all(term)) != self.unless
        }
    }

    fn find_acl(name: Text, acls: &mut Vec<Acl>, lists: &[Userlist]) -> Result<usize, Text> {
        if let Some(at) = acls.iter().position(|acl| acl.name == name) {
            return Ok(at);
        }
        let line =
            PREDEFINED.iter().find(|line| line.0.as_bytes() == name).ok_or_else(|| bad(name, "is no such ACL"))?;
        let words: Vec<Text> = line.1.split(' ').map(str::as_bytes).collect();
        acls.push(Acl { name, tests: vec![Test::compile(&words, lists)?] });
        Ok(acls.len() - 1)
    }

    // ---- format strings ----------------------------------------------------

    type Field = fn(&Scene, &mut Out);

    /// Aliases of a format string that mean something here.
    #[rustfmt::skip]
    const FIELDS: &[(&str, Field)] = &[
        ("B", |scene, out| { out.num(scene.outcome.bytes_out); }),
        ("CC CS", |_, out| { out.put("-"); }),
        ("H", |scene, out| { out.put(scene.node); }),
        ("HM", |scene, out| escape(scene, |request| request.method, out)),
        ("HP HPO", |scene, out| escape(scene, |request| request.path(), out)),
        ("HQ", |scene, out| {
            if scene.request.is_some_and(|request| !request.query().is_empty()) {
                out.put("?");
                escape(scene, |request| request.query(), out);
            }
        }),
        ("HU", |scene, out| escape(scene, |request| request.target, out)),
        ("HV", |scene, out| escape(scene, |request| request.version, out)),
        ("ST", |scene, out| { out.num(scene.outcome.status); }),
        ("T Tl trg trl", |scene, out| date(scene.started, false, out)),
        ("TR Tq", |scene, out| { out.num(scene.outcome.request_ms); }),
        ("Ta Tt", |scene, out| { out.num(scene.outcome.total_ms); }),
        ("Tc Tr Tw", |scene, out| { out.num(scene.outcome.server_ms); }),
        ("Th Ti bc bq rc sc sq", |_, out| { out.put("0"); }),
        ("Ts", |scene, out| { out.num(scene.started.seconds); }),
        ("U", |scene, out| { out.num(scene.outcome.bytes_in); }),
        ("ac", |scene, out| { out.num(scene.connections.0); }),
        ("b f ft", |scene, out| { out.put(scene.frontend); }),
        ("ci", |scene, out| address(scene.peer.ip(), out)),
        ("cp", |scene, out| { out.num(scene.peer.port()); }),
        ("fc", |scene, out| { out.num(scene.connections.1); }),
        ("fi", |scene, out| address(scene.local.ip(), out)),
        ("fp", |scene, out| { out.num(scene.local.port()); }),
        ("hr hs", |_, _| {}),
        ("ms", |scene, out| { out.padded(scene.started.millis, 3); }),
        ("pid", |_, out| { out.num(std::process::id()); }),
        ("r", |scene, out| escape(scene, |request| request.line, out)),
        ("rt", |scene, out| { out.num(scene.requests); }),
        ("s", |scene, out| { out.put(scene.outcome.server); }),
        ("t tr", |scene, out| date(scene.started, true, out)),
        ("ts", |scene, out| { out.put(&scene.outcome.flags[..2]); }),
        ("tsc", |scene, out| { out.put(scene.outcome.flags); }),
    ];

    /// `option httplog`, in its own language.
    pub const HTTPLOG: Text =
        b"%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %{+Q}r";
    /// `option tcplog`.
    pub const TCPLOG: Text = b"%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq";
    /// What is logged without either option, once for each connection.
    pub const CONNECTION_LOG: Text = b"Connect from %ci:%cp to %fi:%fp (%f/HTTP)";

    #[derive(Clone, Copy)]
    enum Piece {
        Literal(Text),
        /// Blanks of a log format: one, never two in a row.
        Blank,
        Field(Field, bool),
        Fetch(Fetch, bool),
    }

    /// A compiled format string.
    #[derive(Clone, Default)]
    pub struct Format(Vec<Piece>);

    impl Format {
        /// A format that is the text itself.
        pub fn literal(text: Text) -> Self {
            Self(vec![Piece::Literal(text)])
        }

        /// Adds what a fetch yields.
        pub fn then(mut self, fetch: Text) -> Result<Self, Text> {
            self.0.push(Piece::Fetch(Fetch::compile(fetch, &[])?.0, false));
            Ok(self)
        }

        /// Compiles a format string; `log` merges blanks, as log-format does.
        pub fn compile(text: Text, log: bool, lists: &[Userlist]) -> Result<Self, Text> {
            let mut pieces = Vec::new();
            let mut quote_all = false;
            let mut rest = text;
            while !rest.is_empty() {
                let plain = rest.iter().take_while(|&&byte| byte != b'%' && (byte != b' ' || !log)).count();
                if plain > 0 {
                    pieces.push(Piece::Literal(&rest[..plain]));
                    rest = &rest[plain..];
                } else if rest[0] == b' ' {
                    pieces.push(Piece::Blank);
                    rest = rest.trim_ascii_start();
                } else if let Some(after) = rest.strip_prefix(b"%%") {
                    pieces.push(Piece::Literal(b"%"));
                    rest = after;
                } else {
                    rest = Self::alias(&rest[1..], &mut quote_all, &mut pieces, lists)?;
                }
            }
            Ok(Self(pieces))
        }

        /// Compiles what follows a `%`: `[fetch]` or an alias, flags before it.
        fn alias(
            mut rest: Text,
            quote_all: &mut bool,
            pieces: &mut Vec<Piece>,
            lists: &[Userlist],
        ) -> Result<Text, Text> {
            let mut quote = *quote_all;
            if let Some(flags) = rest.strip_prefix(b"{") {
                let (flags, after) = http::split_at_byte(flags, b'}');
                quote = match flags {
                    b"+Q" => true,
                    b"-Q" => false,
                    _ => return Err(bad(flags, "is no flag of a format string that is supported : +Q or -Q")),
                };
                rest = after;
            }
            if let Some(expression) = rest.strip_prefix(b"[") {
                let end =
                    expression.iter().position(|&byte| byte == b']').ok_or_else(|| cat!("'%[' without its ']'"))?;
                let (fetch, _, suffix) = Fetch::compile(&expression[..end], lists)?;
                if suffix {
                    return Err(bad(&expression[..end], "is an unknown fetch"));
                }
                pieces.push(Piece::Fetch(fetch, quote));
                return Ok(&expression[end + 1..]);
            }
            let (name, after) = rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count());
            if name == b"o" {
                *quote_all = quote;
                return Ok(after);
            }
            let found = FIELDS.iter().find(|field| field.0.split(' ').any(|word| word.as_bytes() == name));
            let field = found.ok_or_else(|| cat!("'%", name, "' is not supported in a format string"))?;
            pieces.push(Piece::Field(field.1, quote));
            Ok(after)
        }

        /// The text, where nothing in it depends on a request.
        fn fixed(&self) -> Option<Text> {
            let texts = self.0.iter().map(|piece| match piece {
                Piece::Literal(text) => Some(*text),
                _ => None,
            });
            texts.collect::<Option<Vec<Text>>>().map(|texts| crate::out::join(&texts))
        }

        pub fn write(&self, scene: &Scene, out: &mut Out) {
            let mut blank = true;
            for piece in &self.0 {
                let mark = out.len();
                let quoted = matches!(piece, Piece::Field(_, true) | Piece::Fetch(_, true));
                out.put(if quoted { "\"" } else { "" });
                match piece {
                    Piece::Literal(text) => drop(out.put(text)),
                    Piece::Blank => drop(out.put(if blank { "" } else { " " })),
                    Piece::Field(field, _) => field(scene, out),
                    Piece::Fetch(fetch, _) => fetch.write(scene, out),
                }
                out.put(if quoted { "\"" } else { "" });
                if out.len() > mark {
                    blank = matches!(piece, Piece::Blank);
                }
            }
        }
    }

    /// Text of a client in a log: a quote, a control character or a byte
    /// beyond ASCII is written as `#` and two hexadecimal digits.
    fn escape(scene: &Scene, of: for<'a> fn(&'a Request<'a, 'a>) -> &'a [u8], out: &mut Out) {
        for &byte in scene.request.map_or(&b"<BADREQ>"[..], of) {
            if byte.is_ascii_graphic() && !b"\"#{|}".contains(&byte) || byte == b' ' {
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
        let (days, second) = (wall.seconds / 86_400, (wall.seconds % 86_400) as u32);
        // eras of 400 years that begin on the 1st of March, so that the leap
        // day is a year's last
        let (era, day) = ((days + 719_468) / 146_097, (days + 719_468) % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        out.padded((day - (153 * month + 2) / 5 + 1) as u32, 2);
        let months = b"/Mar/Apr/May/Jun/Jul/Aug/Sep/Oct/Nov/Dec/Jan/Feb/";
        out.put(&months[month as usize * 4..month as usize * 4 + 5]);
        out.num(era * 400 + year + u64::from(month >= 10));
        for part in [second / 3600, second / 60 % 60, second % 60] {
            out.put(":");
            out.padded(part, 2);
        }
        if millis {
            out.put(".");
            out.padded(wall.millis, 3);
        } else {
            out.put(" +0000");
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
                Self::Keep => "",
                Self::KeepTold => "connection: keep-alive\r\n",
                Self::Close => "connection: close\r\n",
            }
        }
    }

    /// Room for `content-length: `, as many digits as a buffer needs, and CRLF.
    const LENGTH_LINE: usize = 26;

    /// A configured or built-in answer.
    #[derive(Clone)]
    pub struct Reply {
        pub status: u16,
        phrase: Text,
        /// Header fields before and behind the length.
        pub before: Vec<(Text, Format)>,
        pub after: Vec<(Text, Format)>,
        pub body: Format,
        /// Head and body, where nothing depends on the request.
        fixed: Option<(Text, Text)>,
    }

    impl Reply {
        pub fn new(status: u16, body: Format) -> Self {
            let phrase = http::reason(status).0.as_bytes();
            Self { status, phrase, before: Vec::new(), after: Vec::new(), body, fixed: None }
        }

        /// The built-in answer for an error, or for a monitor's 200.
        pub fn standard(status: u16) -> Self {
            let (phrase, sentence) = http::reason(status);
            let title = cat!(itoa::Buffer::new().format(status), " ", phrase);
            let body = cat!("<!doctype html><title>", title, "</title><h1>", title, "</h1><p>", sentence, "</p>\n");
            Self::new(status, Format::literal(body))
                .with(b"cache-control", b"no-cache")
                .with(b"content-type", b"text/html")
        }

        /// A redirection to where `location` says.
        pub fn redirect(status: u16, location: Format, cookie: Option<Text>) -> Self {
            let mut reply = Self::new(status, Format::default());
            reply.after.push((b"location", location));
            if status == 302 {
                reply = reply.with(b"cache-control", b"no-cache");
            }
            if let Some(cookie) = cookie {
                reply = reply.with(b"set-cookie", cookie);
            }
            reply
        }

        /// A challenge (RFC 7617 §2).
        pub fn challenge(realm: Text) -> Self {
            Self::standard(401).with(b"www-authenticate", cat!("Basic realm=\"", realm, "\""))
        }

        /// Reads a whole answer as it stands in an `errorfile`.
        pub fn from_file(text: Text) -> Result<Self, Text> {
            let mut slots = [http::EMPTY_HEADER; http::MAX_HEADERS];
            let mut response = httparse::Response::new(&mut slots);
            let length = match response.parse(text) {
                Ok(httparse::Status::Complete(length)) => length,
                _ => return Err(cat!("the file holds no whole HTTP/1 answer")),
            };
            let mut reply = Self::new(response.code.unwrap_or(500), Format::literal(&text[length..]));
            reply.phrase = response.reason.unwrap_or("").as_bytes();
            for field in response.headers {
                let name: Text = cat!(field.name.to_ascii_lowercase());
                // how the answer is framed is this server's affair
                if !matches!(name, b"content-length" | b"transfer-encoding" | b"connection") {
                    reply = reply.with(name, cat!(field.value));
                }
            }
            Ok(reply)
        }

        pub fn with(mut self, name: Text, value: Text) -> Self {
            self.after.push((name, Format::literal(value)));
            self
        }

        /// Puts together at start what does not depend on a request. Gives the
        /// bytes that are known.
        pub fn prepare(&mut self) -> usize {
            self.fixed = self.fix();
            let body = self.body.fixed().map_or(0, <[u8]>::len);
            body + self.fixed.map_or(0, |fixed| fixed.0.len())
        }

        fn fix(&self) -> Option<(Text, Text)> {
            let body = self.body.fixed()?;
            let mut head = self.status_line();
            for (name, value) in &self.before {
                head = cat!(head, name, ": ", value.fixed()?, "\r\n");
            }
            if self.has_length() {
                head = cat!(head, "content-length: ", itoa::Buffer::new().format(body.len()), "\r\n");
            }
            for (name, value) in &self.after {
                head = cat!(head, name, ": ", value.fixed()?, "\r\n");
            }
            Some((head, body))
        }

        fn status_line(&self) -> Text {
            cat!("HTTP/1.1 ", itoa::Buffer::new().format(self.status), " ", self.phrase, "\r\n")
        }

        /// 204 and 304 have no body and no length (RFC 9110 §8.6).
        fn has_length(&self) -> bool {
            !matches!(self.status, 204 | 304)
        }

        /// Writes the answer. It is whole unless `out` is full afterwards.
        pub fn write(&self, scene: &Scene, head_only: bool, persistence: Persistence, out: &mut Out) {
            let with_body = !head_only && self.has_length();
            if let Some((head, body)) = self.fixed {
                out.put(head).put(persistence.field()).put("\r\n").put(if with_body { body } else { b"" });
                return;
            }
            out.put("HTTP/1.1 ").num(self.status).put(" ").put(self.phrase).put("\r\n");
            put_fields(&self.before, scene, out);
            let length_at = out.len();
            let gap = if self.has_length() { LENGTH_LINE } else { 0 };
            out.gap(gap);
            put_fields(&self.after, scene, out);
            out.put(persistence.field()).put("\r\n");
            let body_at = out.len();
            self.body.write(scene, out);
            if out.full {
                return;
            }
            let length = out.len() - body_at;
            if !with_body {
                out.truncate(body_at);
            }
            if self.has_length() {
                let mut line = [0; LENGTH_LINE];
                let mut field = Out::new(&mut line, 0);
                field.put("content-length: ").num(length).put("\r\n");
                out.fill_gap(length_at, gap, field.written());
            }
        }
    }

    fn put_fields(fields: &[(Text, Format)], scene: &Scene, out: &mut Out) {
        for (name, value) in fields {
            out.put(name).put(": ");
            value.write(scene, out);
            out.put("\r\n");
        }
    }

    /// What a matching `http-request` rule does.
    #[derive(Clone)]
    pub enum Action {
        Allow,
        Return(Reply),
        /// An answer that counts as denied.
        Deny(Reply),
        /// The same, after `timeout tarpit`.
        Tarpit(Reply),
        /// Close without an answer.
        Reject,
        Metrics,
    }

    #[derive(Clone)]
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

/// The batch of log lines and where it goes. Owns its buffer; calls sys only.
mod log {
    use crate::out::Out;
    use crate::sys;

    /// Room for the lines of one turn of the loop, in bytes.
    const BATCH: usize = 65_536;
    /// Longest line, as HAProxy's default; the rest is cut off.
    const MAX_LINE: usize = 1024;

    /// A descriptor that lines are written to.
    #[derive(Clone)]
    pub struct Target {
        pub descriptor: i32,
        /// `<PRI>` before each line (RFC 5424 §6.2.1), in `format short`.
        pub priority: Option<u8>,
        /// Whether the level of requests, "info", is wanted.
        pub wanted: bool,
    }

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
        pub fn line(&mut self, target: &Target, write: impl FnOnce(&mut Out)) {
            if target.descriptor != self.descriptor {
                self.flush();
            }
            if self.len == 0 {
                self.descriptor = target.descriptor;
            }
            // the batch is full, or a full pipe keeps it from another target
            if self.len + MAX_LINE > self.batch.len() || target.descriptor != self.descriptor {
                self.dropped += 1;
                return;
            }
            let mut out = Out::new(&mut self.batch[self.len..self.len + MAX_LINE], 0);
            out.keep_free(1);
            if let Some(priority) = target.priority {
                out.put("<").num(priority).put(">");
            }
            write(&mut out);
            out.keep_free(0);
            out.put("\n");
            self.len += out.len();
        }

        /// Writes the batch as far as its target takes it at once. What a full
        /// pipe leaves stays for the next turn; a closed one drops it.
        pub fn flush(&mut self) {
            let mut done = 0;
            while done < self.len {
                match sys::write_some(self.descriptor, &self.batch[done..self.len]) {
                    Ok(0) => break,
                    Ok(taken) => done += taken,
                    Err(_) => {
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

/// HTTP/1 requests as RFC 9110 and RFC 9112 define them, as pure functions
/// over byte slices. Owns the grammar; calls httparse only.
mod http {
    pub use httparse::{EMPTY_HEADER, Header};

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
    /// What an HTTP/2 client with prior knowledge sends first (RFC 9113 §3.4).
    const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

    /// What the bytes at the head of a buffer are.
    pub enum Parsed<'h, 'b> {
        /// Not a whole head yet.
        Partial,
        /// Not a request that can be served: answer this status and close.
        Bad(u16),
        /// More header fields than slots: give [`MAX_HEADERS`] of them.
        Crowded,
        /// HTTP/2, which is refused in its own framing.
        Http2,
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
        /// The client speaks HTTP/1.0 and has to be told of keep-alive.
        pub tell_keep_alive: bool,
        /// The client waits for `100 Continue` before it sends the body.
        pub expects_continue: bool,
    }

    impl<'b> Request<'_, 'b> {
        /// The target without scheme and authority (RFC 9112 §3.2.2).
        pub fn local(&self) -> &'b [u8] {
            if self.target.first() == Some(&b'/') {
                return self.target;
            }
            match authority(self.target) {
                Some(authority) => {
                    let rest = &self.target[find(self.target, b"://").unwrap_or(0) + 3 + authority.len()..];
                    if rest.is_empty() { b"/" } else { rest }
                }
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
            fields(self.headers, name)
        }

        pub fn is_head(&self) -> bool {
            self.method == b"HEAD"
        }
    }

    /// Parses one request head at the start of `buffer`, which must not begin
    /// with an empty line: see [`blank_lines`].
    pub fn parse<'h, 'b>(buffer: &'b [u8], slots: &'h mut [Header<'b>]) -> Parsed<'h, 'b> {
        if buffer.starts_with(H2_PREFACE) {
            return Parsed::Http2;
        }
        let Some(end) = buffer.iter().position(|&byte| byte == b'\n') else {
            // an error that shows early is answered early: TLS, other protocols
            let method = buffer.iter().take_while(|&&byte| is_token(byte)).count();
            let fine =
                buffer == b"\r" || buffer[method..].is_empty() || method > 0 && matches!(buffer[method], b' ' | b'\t');
            return if fine { Parsed::Partial } else { Parsed::Bad(400) };
        };
        let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
        let Some((method, target, version)) = request_line(line) else {
            return Parsed::Bad(400);
        };
        let all = slots.len() == MAX_HEADERS;
        let (length, headers) = match httparse::parse_headers(&buffer[end + 1..], slots) {
            Ok(httparse::Status::Complete((length, headers))) => (end + 1 + length, headers),
            Ok(httparse::Status::Partial) => return Parsed::Partial,
            Err(httparse::Error::TooManyHeaders) if !all => return Parsed::Crowded,
            Err(_) => return Parsed::Bad(400),
        };
        let mut request = Request {
            line,
            method,
            target,
            version,
            headers,
            length,
            framing: Framing::Length(0),
            keep_alive: false,
            tell_keep_alive: false,
            expects_continue: false,
        };
        match interpret(&mut request) {
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
        let method_end = line.iter().position(blank)?;
        let (method, rest) = line.split_at(method_end);
        let rest = &rest[rest.iter().position(|byte| !blank(byte))?..];
        let (target, rest) = rest.split_at(rest.iter().position(blank)?);
        let version = &rest[rest.iter().position(|byte| !blank(byte))?..];
        let [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] = version else {
            return None;
        };
        let fine = !method.is_empty()
            && method.iter().all(|&byte| is_token(byte))
            && target.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#')
            && major.is_ascii_digit()
            && *major != b'0'
            && minor.is_ascii_digit()
            && (method != b"CONNECT" || is_authority(target) && target.contains(&b':'));
        fine.then_some((method, target, version))
    }

    /// Fills in what the header fields say; the error is the status to answer.
    fn interpret(request: &mut Request) -> Result<(), u16> {
        let old = request.version == b"HTTP/1.0";
        let mut host: Option<&[u8]> = authority(request.target);
        let mut length: Option<u64> = None;
        let mut chunked = false;
        let mut encoded = false;
        let (mut close, mut keep) = (false, false);
        for field in request.headers {
            let name = field.name.as_bytes();
            // most fields are none of these: look at the length first
            match name.len() {
                4 if name.eq_ignore_ascii_case(b"host") => {
                    if !is_authority(field.value) || host.is_some_and(|h| !same_host(h, field.value)) {
                        return Err(400);
                    }
                    host = Some(field.value);
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
                    for word in field.value.split(|&byte| byte == b',') {
                        let value = decimal(word.trim_ascii()).ok_or(400u16)?;
                        if length.is_some_and(|before| before != value) {
                            return Err(400);
                        }
                        length = Some(value);
                    }
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    for word in field.value.split(|&byte| byte == b',') {
                        let word = word.trim_ascii();
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
        if chunked && old {
            return Err(413); // RFC 9112 §6.1: its framing cannot be trusted
        }
        request.framing = if chunked { Framing::Chunked } else { Framing::Length(length.unwrap_or(0)) };
        // both framings at once are a smuggling attempt: never kept alive (§6.1)
        let both = chunked && length.is_some();
        request.keep_alive = !close && !both && (!old || keep);
        request.tell_keep_alive = request.keep_alive && old;
        Ok(())
    }

    /// `scheme://authority` of an absolute-form target.
    fn authority(target: &[u8]) -> Option<&[u8]> {
        let scheme = find(target, b"://")?;
        if scheme == 0 || !target[..scheme].iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let rest = &target[scheme + 3..];
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        Some(&rest[..end])
    }

    /// `uri-host [ ":" port ]` by its characters (RFC 3986 §3.2); empty is fine.
    fn is_authority(text: &[u8]) -> bool {
        let mark = |byte: u8| b"-._~!$&'()*+,;=:%[]".contains(&byte);
        text.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':') || mark(byte))
    }

    /// The same host, default port or not.
    fn same_host(one: &[u8], other: &[u8]) -> bool {
        let bare = |text: &'_ [u8]| text.strip_suffix(b":80").unwrap_or(text).len();
        one[..bare(one)].eq_ignore_ascii_case(&other[..bare(other)])
    }

    /// `1*DIGIT` (RFC 9110 §8.6), no sign, at most [`MAX_LENGTH`].
    fn decimal(text: &[u8]) -> Option<u64> {
        if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let value = text.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        (value <= MAX_LENGTH).then_some(value)
    }

    /// `tchar` (RFC 9110 §5.6.2).
    pub fn is_token(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
    }

    /// Elements of a comma-separated list, blanks trimmed (RFC 9110 §5.6.1).
    pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
        value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
    }

    /// Values of every field of one name.
    pub fn fields<'s, 'b>(headers: &'s [Header<'b>], name: &'s [u8]) -> impl Iterator<Item = &'b [u8]> + 's {
        let named = headers.iter().filter(move |field| field.name.as_bytes().eq_ignore_ascii_case(name));
        named.map(|field| field.value)
    }

    /// Where `part` first stands in `text`.
    pub fn find(text: &[u8], part: &[u8]) -> Option<usize> {
        text.windows(part.len().max(1)).position(|window| window == part)
    }

    /// What stands before and behind the first such byte.
    pub fn split_at_byte(text: &[u8], byte: u8) -> (&[u8], &[u8]) {
        match text.iter().position(|&b| b == byte) {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => (text, b""),
        }
    }

    /// Reads over a body without keeping it.
    pub struct BodyReader {
        step: Step,
        /// Bytes left of the body or of the chunk.
        left: u64,
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Step {
        Plain,
        ChunkSize,
        ChunkData,
        ChunkEnd,
        Trailer,
    }

    /// A body that breaks its framing.
    #[derive(Debug)]
    pub struct BadBody;

    impl BodyReader {
        pub fn new(framing: Framing) -> Self {
            match framing {
                Framing::Length(left) => Self { step: Step::Plain, left },
                Framing::Chunked => Self { step: Step::ChunkSize, left: 0 },
            }
        }

        /// Takes what is there: how many bytes are used up, and whether the
        /// body ended with them. Unused bytes must be offered again.
        ///
        /// # Errors
        /// A chunk that does not follow RFC 9112 §7.1 to the letter.
        pub fn take(&mut self, input: &[u8]) -> Result<(usize, bool), BadBody> {
            let mut used = 0;
            loop {
                let rest = &input[used..];
                match self.step {
                    Step::Plain | Step::ChunkData => {
                        let here = self.left.min(rest.len() as u64);
                        self.left -= here;
                        used += here as usize;
                        if self.left > 0 || self.step == Step::Plain {
                            return Ok((used, self.left == 0));
                        }
                        self.step = Step::ChunkEnd;
                    }
                    Step::ChunkEnd => match rest {
                        [b'\r', b'\n', ..] => {
                            used += 2;
                            self.step = Step::ChunkSize;
                        }
                        [] | [b'\r'] => return Ok((used, false)),
                        _ => return Err(BadBody),
                    },
                    Step::ChunkSize => match chunk_size(rest)? {
                        None => return Ok((used, false)),
                        Some((length, size)) => {
                            used += length;
                            self.left = size;
                            self.step = if size == 0 { Step::Trailer } else { Step::ChunkData };
                        }
                    },
                    Step::Trailer => {
                        let mut slots = [EMPTY_HEADER; MAX_HEADERS];
                        return match httparse::parse_headers(rest, &mut slots) {
                            Ok(httparse::Status::Complete((length, _))) => Ok((used + length, true)),
                            Ok(httparse::Status::Partial) if rest.len() <= MAX_TRAILER => Ok((used, false)),
                            _ => Err(BadBody),
                        };
                    }
                }
            }
        }
    }

    /// `chunk-size [ chunk-ext ] CRLF`. httparse reads it; what it lets pass
    /// in an extension and others end the line at (a bare LF) is refused here.
    fn chunk_size(input: &[u8]) -> Result<Option<(usize, u64)>, BadBody> {
        match httparse::parse_chunk_size(input) {
            Ok(httparse::Status::Complete((length, size))) => {
                let line = &input[..length - 2];
                let fine = line.first().is_some_and(u8::is_ascii_hexdigit)
                    && length <= MAX_CHUNK_LINE
                    && size <= MAX_LENGTH
                    && !line.iter().any(|&byte| byte < b' ' && byte != b'\t');
                if fine { Ok(Some((length, size))) } else { Err(BadBody) }
            }
            Ok(httparse::Status::Partial) if input.len() <= MAX_CHUNK_LINE => match input {
                [first, ..] if !first.is_ascii_hexdigit() => Err(BadBody),
                _ => Ok(None),
            },
            _ => Err(BadBody),
        }
    }

    /// Reason phrase of a status (RFC 9110 §15), and the sentence of the body
    /// that goes with it where none is configured.
    pub fn reason(status: u16) -> (&'static str, &'static str) {
        match status {
            200 => ("OK", "Ready."),
            201 => ("Created", ""),
            202 => ("Accepted", ""),
            204 => ("No Content", ""),
            301 => ("Moved Permanently", ""),
            302 => ("Found", ""),
            303 => ("See Other", ""),
            304 => ("Not Modified", ""),
            307 => ("Temporary Redirect", ""),
            308 => ("Permanent Redirect", ""),
            400 => ("Bad request", "The request does not follow HTTP."),
            401 => ("Unauthorized", "A user name and a password are needed here."),
            403 => ("Forbidden", "A rule forbids this request."),
            404 => ("Not Found", "Nothing is found at this address."),
            405 => ("Method Not Allowed", "The method is not allowed here."),
            407 => ("Unauthorized", "The proxy needs a user name and a password."),
            408 => ("Request Time-out", "The request did not arrive in time."),
            410 => ("Gone", "What was here is gone for good."),
            413 => ("Payload Too Large", "The body of the request is too large."),
            418 => ("I'm a teapot", ""),
            421 => ("Misdirected Request", "The request came to the wrong server."),
            422 => ("Unprocessable Content", "The encoding of the body is not understood."),
            425 => ("Too Early", "The request came too early."),
            429 => ("Too Many Requests", "There were too many requests lately."),
            500 => ("Internal Server Error", "The answer could not be made."),
            501 => ("Not Implemented", "The request asks for what is not implemented."),
            502 => ("Bad Gateway", "There is no valid answer from behind."),
            503 => ("Service Unavailable", "No server is there to answer this request."),
            504 => ("Gateway Time-out", "There was no answer from behind in time."),
            _ => ("Other", ""),
        }
    }
}

/// The few calls that std and mio have not. Owns all `unsafe` code.
mod sys {
    use crate::out::Text;
    use std::ffi::OsStr;
    use std::io;
    use std::os::fd::FromRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI32, Ordering};

    unsafe extern "C" {
        fn signal(number: i32, handler: usize) -> usize;
        fn getrlimit(resource: i32, limit: *mut [u64; 2]) -> i32;
        fn setrlimit(resource: i32, limit: *const [u64; 2]) -> i32;
        fn sysinfo(info: *mut SysInfo) -> i32;
        fn poll(fds: *mut PollFd, count: u64, timeout_ms: i32) -> i32;
        fn write(fd: i32, bytes: *const u8, count: usize) -> isize;
        fn daemon(nochdir: i32, noclose: i32) -> i32;
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
        uptime: i64,
        loads: [u64; 3],
        total: u64,
        free: u64,
        shared_buffers_swap: [u64; 4],
        procs: u16,
        high: [u64; 2],
        unit: u32,
        spare: [u64; 32],
    }

    pub const SIGINT: i32 = 2;
    pub const SIGUSR1: i32 = 10;
    pub const SIGTERM: i32 = 15;
    const RLIMIT_NOFILE: i32 = 7;
    const RLIMIT_AS: i32 = 9;
    const POLLOUT: i16 = 4;

    static WAKER: OnceLock<mio::Waker> = OnceLock::new();
    static SIGNALLED: AtomicI32 = AtomicI32::new(0);

    /// Only stores and writes to an eventfd: both are async-signal-safe.
    extern "C" fn on_signal(number: i32) {
        SIGNALLED.store(number, Ordering::SeqCst);
        if let Some(waker) = WAKER.get() {
            let _ = waker.wake();
        }
    }

    /// Has TERM, INT and USR1 wake the loop. Where no signal is ever
    /// delivered (Unikraft) this has no effect.
    pub fn catch_signals(waker: mio::Waker) {
        let _ = WAKER.set(waker);
        for number in [SIGTERM, SIGINT, SIGUSR1] {
            // SAFETY: the handler has the C signature that signal(2) wants.
            unsafe { signal(number, on_signal as *const () as usize) };
        }
    }

    /// The last signal caught, 0 for none; reading it forgets it.
    pub fn take_signal() -> i32 {
        SIGNALLED.swap(0, Ordering::SeqCst)
    }

    /// Raises the limit of open files towards `wanted`; returns what is allowed.
    pub fn allow_files(wanted: u64) -> u64 {
        let mut limit = [0u64; 2];
        // SAFETY: both calls get a valid pointer to two 64-bit words.
        unsafe {
            if getrlimit(RLIMIT_NOFILE, &raw mut limit) != 0 {
                return u64::MAX;
            }
            if limit[0] < wanted {
                // root may raise the hard limit too; anybody may go up to it
                let both = [wanted, limit[1].max(wanted)];
                let soft = [wanted.min(limit[1]), limit[1]];
                if setrlimit(RLIMIT_NOFILE, &raw const both) == 0 {
                    limit = both;
                } else if setrlimit(RLIMIT_NOFILE, &raw const soft) == 0 {
                    limit = soft;
                }
            }
        }
        limit[0]
    }

    /// Bytes of memory that this process may still take: the least of the
    /// address-space limit, the control group's limit and what is free.
    pub fn available_memory() -> u64 {
        let mut available = u64::MAX;
        let mut limit = [u64::MAX; 2];
        let mut info = SysInfo::default();
        // SAFETY: both get pointers to structures of the size they fill.
        unsafe {
            if getrlimit(RLIMIT_AS, &raw mut limit) == 0 {
                available = available.min(limit[0]);
            }
            if sysinfo(&raw mut info) == 0 && info.total > 0 {
                // on Linux, memory that the page cache holds is not "free"
                let free = match number_in(b"/proc/meminfo", b"MemAvailable:") {
                    Some(kib) => kib * 1024,
                    None => info.free.saturating_mul(u64::from(info.unit.max(1))),
                };
                available = available.min(free);
            }
        }
        available.min(number_in(b"/sys/fs/cgroup/memory.max", b"").unwrap_or(u64::MAX))
    }

    /// The first number behind a key in a file of the kernel's.
    fn number_in(file: Text, key: &[u8]) -> Option<u64> {
        let text = read_file(file).ok()?;
        let at = (0..text.len()).find(|&at| text[at..].starts_with(key))?;
        let digits = text[at + key.len()..].trim_ascii_start().split(|byte| !byte.is_ascii_digit()).next()?;
        crate::config::number(digits, 0, u64::MAX)
    }

    /// Writes what a descriptor takes at once, without blocking and without
    /// changing its flags, which other processes may share: poll(2) promises
    /// room for [`PIPE_ROOM`] bytes. Returns the bytes taken, 0 when it is full.
    pub fn write_some(fd: i32, bytes: &[u8]) -> io::Result<usize> {
        let mut pollfd = PollFd { fd, events: POLLOUT, revents: 0 };
        // SAFETY: one valid pollfd; the pointer and length are one slice's.
        unsafe {
            if poll(&raw mut pollfd, 1, 0) <= 0 {
                return Ok(0);
            }
            match write(fd, bytes.as_ptr(), bytes.len().min(PIPE_ROOM)) {
                -1 => Err(io::Error::last_os_error()),
                taken => Ok(taken as usize),
            }
        }
    }
    /// PIPE_BUF of Linux.
    const PIPE_ROOM: usize = 4096;

    /// A listening socket that was open when the program was started.
    pub fn inherited(descriptor: i32) -> std::net::TcpListener {
        // SAFETY: the configuration says that this descriptor is a socket of
        // ours, and names it once.
        unsafe { std::net::TcpListener::from_raw_fd(descriptor) }
    }

    /// Goes on in the background, as daemon(3) does.
    pub fn background() -> io::Result<()> {
        // SAFETY: called before any thread exists.
        match unsafe { daemon(1, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// What an error of the system is called, without std's formatting code.
    pub fn reason(error: &io::Error) -> Text {
        const NAMES: &[(i32, &str)] = &[
            (1, "not permitted"),
            (2, "no such file or directory"),
            (9, "bad descriptor"),
            (12, "no memory"),
            (13, "permission denied"),
            (21, "it is a directory"),
            (23, "too many open files in the system"),
            (24, "too many open files"),
            (38, "not supported by this system"),
            (97, "this address family is not supported"),
            (98, "the address is in use"),
            (99, "this machine has no such address"),
        ];
        let number = error.raw_os_error().unwrap_or(0);
        match NAMES.iter().find(|name| name.0 == number) {
            Some(name) => name.1.as_bytes(),
            None => cat!("error ", itoa::Buffer::new().format(number)),
        }
    }

    /// A whole file, for good.
    ///
    /// # Errors
    /// A message that names the file and the reason.
    pub fn read_file(name: Text) -> Result<Text, Text> {
        let path = Path::new(OsStr::from_bytes(name));
        std::fs::read(path).map(|text| &*text.leak()).map_err(|why| cat!("cannot read '", name, "' : ", reason(&why)))
    }

    /// The files that `-f` names: the file itself, or a directory's `*.cfg` in
    /// the order of their names.
    pub fn configuration_files(name: Text) -> Vec<Text> {
        let Ok(entries) = std::fs::read_dir(Path::new(OsStr::from_bytes(name))) else { return vec![name] };
        let paths = entries.flatten().map(|entry| cat!(entry.path().into_os_string().as_bytes()));
        let mut files: Vec<Text> = paths.filter(|path| path.ends_with(b".cfg")).collect();
        // few, so the simplest of sorts
        for end in (1..files.len()).rev() {
            (0..end).for_each(|at| {
                if files[at] > files[at + 1] {
                    files.swap(at, at + 1)
                }
            });
        }
        files
    }

    /// A variable of the environment.
    pub fn variable(name: Text) -> Option<Text> {
        std::env::var_os(OsStr::from_bytes(name)).map(|value| cat!(value.as_bytes()))
    }

    /// The name of this machine, where the system tells it.
    pub fn node() -> Text {
        read_file(b"/proc/sys/kernel/hostname").map_or(b"localhost", |name| name.trim_ascii_end())
    }

    /// Writes messages. A closed output is nobody's error at start.
    pub fn print(fd: i32, mut text: &[u8]) {
        while !text.is_empty() {
            // SAFETY: the pointer and the length are one slice's.
            match unsafe { write(fd, text.as_ptr(), text.len()) } {
                taken @ 1.. => text = &text[taken as usize..],
                _ => return,
            }
        }
    }
}

/// A bounded writer over a byte slice. Owns nothing; calls itoa only.
mod out {
    /// Text that lives as long as the program: what is configured and what is
    /// built from it at start. It is never given back, nor is any more taken
    /// once the program serves.
    pub type Text = &'static [u8];

    /// See `cat!`: a function, so that each of its many uses stays small.
    #[inline(never)]
    pub fn join(parts: &[&[u8]]) -> Text {
        parts.concat().leak()
    }

    /// Copies equally long slices. Most are a few bytes, for which memcpy would
    /// take longer to start than to copy: those are two overlapping words.
    fn copy(from: &[u8], to: &mut [u8]) {
        fn ends<const N: usize>(from: &[u8], to: &mut [u8]) -> bool {
            let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else { return false };
            to.first_chunk_mut::<N>().into_iter().for_each(|to| *to = *first);
            to.last_chunk_mut::<N>().into_iter().for_each(|to| *to = *last);
            true
        }
        match from.len() {
            33.. => to.copy_from_slice(from),
            16.. => drop(ends::<16>(from, to)),
            _ => drop(ends::<8>(from, to) || ends::<4>(from, to) || ends::<2>(from, to) || ends::<1>(from, to)),
        }
    }

    /// Writes into a fixed slice. What does not fit is not written, and
    /// [`Out::full`] stays set until the next [`Out::truncate`].
    pub struct Out<'a> {
        bytes: &'a mut [u8],
        len: usize,
        /// Bytes at the end that are not written to for now.
        kept_free: usize,
        pub full: bool,
    }

    impl<'a> Out<'a> {
        /// A writer that goes on behind the first `len` bytes.
        pub fn new(bytes: &'a mut [u8], len: usize) -> Self {
            debug_assert!(len <= bytes.len());
            Self { bytes, len, kept_free: 0, full: false }
        }

        pub fn put(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
            self.put_bytes(text.as_ref())
        }

        #[inline(never)]
        fn put_bytes(&mut self, text: &[u8]) -> &mut Self {
            if text.len() > self.room() {
                self.full = true;
            } else {
                copy(text, &mut self.bytes[self.len..self.len + text.len()]);
                self.len += text.len();
            }
            self
        }

        pub fn num(&mut self, number: impl itoa::Integer) -> &mut Self {
            self.put_bytes(itoa::Buffer::new().format(number).as_bytes())
        }

        /// A number with leading zeros, `digits` wide, at most 4.
        pub fn padded(&mut self, number: u32, digits: usize) {
            let mut buffer = itoa::Buffer::new();
            let text = buffer.format(number);
            self.put(&b"0000"[..digits.saturating_sub(text.len()).min(4)]).put(text);
        }

        /// A number in hexadecimal digits.
        pub fn hex(&mut self, number: usize) {
            let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
            for shift in (0..digits).rev() {
                self.put([b"0123456789abcdef"[number >> (4 * shift) & 15]]);
            }
        }

        /// Text inside HTML, element or attribute.
        pub fn html(&mut self, text: &[u8]) -> &mut Self {
            self.escaped(text, |byte| match byte {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                b'\'' => "&#39;",
                _ => "",
            })
        }

        /// Text inside a JSON string, or a value of a Prometheus label.
        pub fn json(&mut self, text: &[u8]) -> &mut Self {
            self.escaped(text, |byte| match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                b'\n' => "\\n",
                0..=31 => "?",
                _ => "",
            })
        }

        /// Copies `text`, bytes for which `escape` has a word replaced by it.
        fn escaped(&mut self, text: &[u8], escape: fn(u8) -> &'static str) -> &mut Self {
            let mut plain = 0;
            for (at, &byte) in text.iter().enumerate() {
                let word = escape(byte);
                if !word.is_empty() {
                    self.put_bytes(&text[plain..at]);
                    self.put_bytes(word.as_bytes());
                    plain = at + 1;
                }
            }
            self.put_bytes(&text[plain..])
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
            (self.bytes.len() - self.kept_free).saturating_sub(self.len)
        }

        /// Keeps room at the end for what is written or inserted later.
        pub fn keep_free(&mut self, bytes: usize) {
            self.kept_free = bytes;
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

#[cfg(test)]
mod tests {
    use crate::config::{Config, Parser, Report};
    use crate::connection::{Connection, Next, Service};
    use crate::http::{self, BodyReader, Framing, Parsed};
    use crate::log::Log;
    use crate::out::Out;
    use crate::rules::Wall;
    use crate::stats::{Process, Rate, Statistics};

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
        let mut report = Report::default();
        let mut parser = Parser::new(&mut report);
        parser.parse(b"test", cat!(text));
        (parser.finish(), report)
    }

    fn service(text: &str) -> Service {
        let (config, report) = configured(&[text, "\n"].concat());
        assert!(report.errors.is_empty(), "{}", String::from_utf8_lossy(report.errors[0]));
        let config: &'static Config = Box::leak(Box::new(config));
        let statistics = Statistics::new(Process { maxconn: 10, ..Process::default() }, config);
        Service { config, statistics, log: Log::new(true), now_ms: 0, wall: Wall::default() }
    }

    const RULES: &str = "frontend web\n mode http\n bind :1\n timeout client 5s\n stats uri /stats\n option httplog\n\
                         log stdout format raw local0\n monitor-uri /alive\n\
                         http-request return lf-string \"%[path] %HQ %[req.hdr(x)]\" hdr a %[url] if { path_beg /lf }\n\
                         http-request deny if { path_sub deny } or { hdr(x) -m found }\n\
                         http-request use-service prometheus-exporter if { path /metrics }";

    /// What a connection answers to bytes that come in pieces of the lengths
    /// that `piece` gives; every answer is sent at once.
    fn answers(service: &mut Service, bytes: &[u8], mut piece: impl FnMut() -> usize) -> Vec<u8> {
        let address = "127.0.0.1:1".parse().unwrap();
        let mut connection = Connection::open(0, address, address, service);
        let (mut answered, mut input, mut rest) = (Vec::new(), Vec::new(), bytes);
        let mut buffer = vec![0; service.config.global.bufsize];
        for turn in 0.. {
            assert!(turn < 100_000, "a connection that is stuck");
            let mut out = Out::new(&mut buffer, 0);
            let (used, next) = connection.advance(service, &input, rest.is_empty(), &mut out);
            answered.extend_from_slice(out.written());
            input.drain(..used);
            match next {
                Next::Close => break,
                Next::Write => {}
                _ => {
                    let room = service.config.global.bufsize - input.len();
                    let length = piece().min(rest.len()).min(room);
                    assert!(room > 0, "a full buffer that is not answered");
                    input.extend_from_slice(&rest[..length]);
                    rest = &rest[length..];
                }
            }
        }
        connection.closed(service);
        answered
    }

    fn whole(service: &mut Service, bytes: &[u8]) -> String {
        String::from_utf8_lossy(&answers(service, bytes, || usize::MAX)).into_owned()
    }

    #[test]
    fn a_request_line_is_what_the_specification_says() {
        let parse = |line: &str| {
            let mut slots = [http::EMPTY_HEADER; http::MAX_HEADERS];
            matches!(http::parse(cat!(line, "\r\n\r\n"), &mut slots), Parsed::Head(_))
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
            let mut reader = BodyReader::new(Framing::Chunked);
            let (used, ended) = reader.take(&body[..cut]).unwrap();
            assert!(!ended && used <= cut);
            let (rest, ended) = reader.take(&body[used..]).unwrap();
            assert!(ended && used + rest == body.len(), "{cut}");
        }
        for bad in ["x\r\n", "-1\r\n", " 1\r\n", "1\nab", "1\r\nab\r\n", "1;a\nb\r\n", "fffffffffffffffff\r\n"] {
            assert!(BodyReader::new(Framing::Chunked).take(bad.as_bytes()).is_err(), "{bad:?}");
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
        let mut out = Out::new(&mut bytes, 0);
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
            assert!(report.errors.iter().all(|error| !error.is_empty()));
            assert!(config.proxies.iter().all(|proxy| proxy.reply(503).status == 503));
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
