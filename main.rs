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
//! | `config`     | the configuration language, the table of keywords       | rules, http                  |
//! | `rules`      | conditions, fetches, format strings, replies            | http                         |
//! | `log`        | the batch of log lines and where it goes                | rules, sys                   |
//! | `http`       | RFC 9112 parsing: heads, framing, chunks                | httparse                     |
//! | `out`        | a bounded writer over a byte slice                      | itoa                         |
//! | `sys`        | the few calls that std and mio have not                 | libc, as linked by std       |
//!
//! To add a configuration word: a line in `config::KEYWORDS`. A statistics
//! column: a line in `stats::COLUMNS`. A fetch: a line in `rules::FETCHES`.
//! An action: a variant of `rules::Action` and its arm in `connection`.

use std::process::exit;

/// Joins byte strings, for messages and for what is built once at start.
macro_rules! cat {
    ($($part:expr),* $(,)?) => {
        crate::out::join(&[$(AsRef::<[u8]>::as_ref(&$part)),*])
    };
}

/// Configuration served when no `-f` is given: the stock file, compiled in.
const STOCK: &[u8] = include_bytes!("haproxy.conf");
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
    let options = match Options::parse() {
        Ok(options) => options,
        Err(word) => {
            say(&cat!("haproxy: unknown or incomplete option '", word, "'\n", USAGE));
            exit(1)
        }
    };
    let mut report = config::Report::default();
    let loaded = options.load(&mut report);
    let failed = !report.errors.is_empty() || options.warnings_fatal && !report.warnings.is_empty();
    if !options.quiet || failed {
        report.print(options.verbose);
    }
    if failed {
        alert(b"config : the configuration has errors, nothing was started");
        exit(1);
    }
    let listening = loaded.proxies.iter().any(|p| !p.disabled && !p.binds.is_empty());
    if options.check && !options.quiet {
        let line: &[u8] = match listening {
            true => b"Configuration file is valid\n",
            false => b"Configuration file has no error, but no listener: it would not start (exit 2)\n",
        };
        print(line);
    }
    if !listening {
        if !options.check {
            alert(b"config : no proxy has a 'bind' line, there is nothing to listen on");
        }
        exit(if options.check { 2 } else { 1 });
    }
    let plan = match event_loop::Plan::new(&loaded, options.maxconn) {
        Ok(plan) => plan,
        Err(why) => {
            alert(&why);
            exit(1)
        }
    };
    if options.check {
        if !options.quiet {
            print(&plan.describe());
        }
        exit(0);
    }
    if let (Some(line), false) = (plan.reduced(), options.quiet) {
        message(b"NOTICE", &line);
    }
    match event_loop::Server::start(loaded, plan, options.background) {
        Ok(server) => exit(server.run()),
        Err(why) => {
            alert(&why);
            exit(1)
        }
    }
}

/// The command line, see [`USAGE`].
#[derive(Default)]
struct Options {
    files: Vec<String>,
    directory: Option<String>,
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
    fn parse() -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(arg.clone());
            match arg.as_str() {
                "-f" => options.files.push(value()?),
                "-C" => options.directory = Some(value()?),
                "-n" => match config::number(value()?.as_bytes(), 1, config::MAXCONN_MAX) {
                    Some(n) => options.maxconn = Some(n as u32),
                    None => return Err(arg),
                },
                "-c" => options.check = true,
                "-q" => options.quiet = true,
                "-V" | "-d" => options.verbose = true,
                "-db" => options.background = false,
                "-D" => options.background = true,
                "-dW" => options.warnings_fatal = true,
                "--" => options.files.extend(args.by_ref()),
                "-v" | "-vv" => {
                    print(&cat!("tiny-haproxy version ", VERSION, ", for HAProxy 2.8 configurations\n"));
                    if arg == "-vv" {
                        print(&config::support());
                    }
                    exit(0)
                }
                "-h" => {
                    print(USAGE.as_bytes());
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
        if let Some(directory) = &self.directory
            && let Err(why) = std::env::set_current_dir(directory)
        {
            parser.fatal(cat!("cannot change to directory '", directory, "' : ", sys::reason(&why)));
        }
        let mut files: Vec<String> = Vec::new();
        for name in &self.files {
            match std::fs::read_dir(name) {
                Ok(entries) => {
                    let inside = entries.flatten().map(|e| e.path().to_string_lossy().into_owned());
                    let mut found: Vec<String> = inside.filter(|f| f.ends_with(".cfg")).collect();
                    found.sort_unstable();
                    files.append(&mut found);
                }
                Err(_) => files.push(name.clone()),
            }
        }
        if self.files.is_empty() {
            parser.parse("haproxy.conf (built in)", STOCK);
        }
        for name in &files {
            match std::fs::read(name) {
                Ok(text) => parser.parse(name, &text),
                Err(why) => parser.fatal(cat!("cannot open '", name, "' : ", sys::reason(&why))),
            }
        }
        parser.finish()
    }
}

/// Writes to standard output. A closed output is nobody's error at start.
fn print(text: &[u8]) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text);
}

/// Writes to standard error.
fn say(text: &[u8]) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text);
}

/// One message in HAProxy's form: `[LEVEL]    (PID) : text`.
fn message(level: &[u8], text: &[u8]) {
    let padding = &b"           "[level.len() + 2..];
    let pid = std::process::id();
    say(&cat!("[", level, "]", padding, "(", itoa::Buffer::new().format(pid), ") : ", text, "\n"));
}

/// One message about what keeps the program from starting.
fn alert(text: &[u8]) {
    message(b"ALERT", text);
}

/// Sockets, slots, buffers, timers and signals. Owns all of mio; calls
/// connection for everything that has a meaning.
mod event_loop {
    use crate::config::{Bind, Config, MAXCONN_DEFAULT};
    use crate::connection::{Connection, Next, Service};
    use crate::log::Log;
    use crate::out::Out;
    use crate::rules::Wall;
    use crate::stats::{Count, Counters, Process, Statistics};
    use crate::sys;
    use mio::net::{TcpListener, TcpStream};
    use mio::{Events, Interest, Poll, Token};
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Shutdown, SocketAddr};
    use std::os::fd::FromRawFd;
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
        pub fn new(config: &Config, option: Option<u32>) -> Result<Self, Vec<u8>> {
            let available = sys::available_memory();
            let each = 2 * config.bufsize as u64 + SLOT_BYTES as u64;
            let bytes = |maxconn: u32| FIXED_BYTES + u64::from(maxconn) * each;
            let asked = option.or(config.maxconn);
            let wanted = asked.unwrap_or(MAXCONN_DEFAULT);
            let mut plan = Self { maxconn: wanted, wanted, bytes: bytes(wanted), bufsize: config.bufsize, available };
            if plan.bytes <= available {
                return Ok(plan);
            }
            let fits = (available / SHARE).saturating_sub(FIXED_BYTES / SHARE) / each;
            if asked.is_some() || fits == 0 {
                return Err(cat!(
                    "not enough memory : ",
                    plan.describe(),
                    "available are ",
                    kib(available),
                    " KiB; lower 'maxconn' or 'tune.bufsize'"
                ));
            }
            plan.maxconn = fits as u32;
            plan.bytes = bytes(plan.maxconn);
            Ok(plan)
        }

        /// One line for `-c`.
        pub fn describe(&self) -> Vec<u8> {
            let mut number = itoa::Buffer::new();
            let maxconn = number.format(self.maxconn).to_owned();
            cat!(
                "Memory needed: ",
                kib(self.bytes),
                " KiB (maxconn ",
                maxconn,
                ", tune.bufsize ",
                number.format(self.bufsize),
                ")\n"
            )
        }

        /// What to say where the memory allows less than the default.
        pub fn reduced(&self) -> Option<Vec<u8>> {
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
        needs_wall: bool,
        needs_local: bool,
    }

    impl Server {
        /// Opens the listening sockets and takes all memory.
        ///
        /// # Errors
        /// What keeps the server from serving: an address in use, no epoll.
        pub fn start(config: Config, plan: Plan, background: bool) -> Result<Self, Vec<u8>> {
            let config: &'static Config = Box::leak(Box::new(config));
            let failed = |what: &str, why: std::io::Error| cat!(what, " : ", sys::reason(&why));
            let mut sockets = Vec::new();
            for (at, proxy) in config.proxies.iter().enumerate().filter(|(_, proxy)| !proxy.disabled) {
                for bind in &proxy.binds {
                    let socket = listen(bind).map_err(|why| {
                        let shown = match bind {
                            Bind::Address(_, shown) => shown.clone(),
                            Bind::Descriptor(number) => cat!("fd@", itoa::Buffer::new().format(*number)),
                        };
                        cat!("starting proxy ", proxy.name, " : cannot listen on [", shown, "] : ", sys::reason(&why))
                    })?;
                    sockets.push(Listener { socket, proxy: at as u16, ready: true });
                }
            }
            if background && let Err(why) = sys::background() {
                crate::message(b"WARNING", &failed("cannot go to the background, staying in front", why));
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
                Err(why) => crate::message(b"WARNING", &failed("signals will not be handled", why)),
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
                crate::message(b"WARNING", &text);
            }
            let targets: Vec<_> = config.proxies.iter().flat_map(|proxy| proxy.targets.iter().cloned()).collect();
            let process = Process {
                started_wall: wall().seconds,
                maxconn: plan.maxconn,
                max_files: allowed,
                buffer_bytes: 2 * (count * config.bufsize) as u64,
                memory_kib: plan.bytes.div_ceil(1024),
                listeners: sockets.len() as u64,
                ..Process::default()
            };
            Ok(Self {
                poll,
                events: Events::with_capacity(EVENTS),
                service: Service {
                    config,
                    statistics: Statistics { process, proxies: vec![Counters::default(); config.proxies.len()] },
                    log: Log::new(&targets),
                    now_ms: 0,
                    wall: wall(),
                },
                listeners: sockets,
                slots: Vec::with_capacity(count),
                free: Vec::with_capacity(count),
                deadlines: Vec::with_capacity(count),
                next_deadline_ms: u64::MAX,
                buffers: Buffers::new(2 * count, config.bufsize),
                started: Instant::now(),
                accept_again_ms: u64::MAX,
                write_again: false,
                probe_at_ms: 0,
                stop_at_ms: u64::MAX,
                needs_wall: !targets.is_empty() || config.proxies.iter().any(|proxy| !proxy.rules.is_empty()),
                needs_local: !targets.is_empty() || config.proxies.iter().any(|proxy| !proxy.rules.is_empty()),
            })
        }

        /// Serves until a signal; returns the exit status.
        pub fn run(mut self) -> i32 {
            loop {
                let timeout = self.timeout();
                if let Err(why) = self.poll.poll(&mut self.events, timeout)
                    && why.kind() != ErrorKind::Interrupted
                {
                    crate::alert(&cat!("waiting for events failed : ", sys::reason(&why)));
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
            if self.needs_wall {
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
            let local = if self.needs_local { stream.local_addr().unwrap_or(peer) } else { peer };
            let connection = Connection::open(proxy, peer, local, &mut self.service);
            let http = self.service.config.proxies[usize::from(proxy)].http;
            self.slots[at] = Slot { stream: Some(stream), connection: Some(connection), closing: !http, ..Slot::EMPTY };
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
                if self.slots[at].stream.is_none() {
                    return;
                }
                match self.send(at) {
                    Io::Done => {}
                    Io::Blocked => break,
                    Io::Failed => return self.close(at),
                }
                let next = if self.slots[at].closing { Next::Close } else { self.advance(at) };
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
            let Some(stream) = &mut slot.stream else { return Io::Failed };
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
            if let Some(ms) = service.config.hard_stop_after {
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

    /// Opens one listening socket.
    fn listen(bind: &Bind) -> std::io::Result<TcpListener> {
        match bind {
            Bind::Address(address, _) => TcpListener::bind(*address),
            Bind::Descriptor(number) => {
                // SAFETY: the configuration says that this descriptor is a
                // listening socket of ours; each is named once.
                let socket = unsafe { std::net::TcpListener::from_raw_fd(*number) };
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
    use crate::config::{Config, Proxy, Stats};
    use crate::http::{self, BodyReader, Parsed, Request};
    use crate::log::Log;
    use crate::out::Out;
    use crate::rules::{self, Action, Outcome, Persistence, Reply, Scene, Wall};
    use crate::stats::{Count, Page, Statistics, View};
    use std::net::SocketAddr;

    /// How long an answered connection may go on sending before it is closed,
    /// in milliseconds: closing earlier could reset it and lose the answer.
    const LINGER_MS: u64 = 2000;
    /// Room kept behind a page for its head, or for a chunk's framing, in bytes.
    const PAGE_HEAD: usize = 512;
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
        /// A page that did not fit into one buffer, and its framing.
        page: Option<(Page, Framing)>,
        /// Bytes of the current answer so far.
        answered_bytes: u64,
    }

    /// How a long page is framed, and whether the connection is kept.
    #[derive(Clone, Copy)]
    struct Framing {
        chunked: bool,
        keep: bool,
    }

    /// What is known of an answer beside its bytes.
    #[derive(Clone, Copy)]
    struct Given {
        status: u16,
        flags: &'static str,
        server: &'static str,
        logged: bool,
    }

    impl Given {
        fn rule(status: u16) -> Self {
            Self { status, flags: "LR--", server: "<NOSRV>", logged: true }
        }
    }

    impl Connection {
        /// A connection that was just accepted.
        pub fn open(proxy: u16, peer: SocketAddr, local: SocketAddr, service: &mut Service) -> Self {
            let counters = &mut service.statistics.proxies[usize::from(proxy)];
            counters.connected(service.now_ms);
            let process = &mut service.statistics.process;
            process.connections += 1;
            process.connections_total += 1;
            process.connections_max = process.connections_max.max(process.connections);
            process.connection_rate.add(service.now_ms, 1);
            let connection = Self {
                proxy,
                peer,
                local,
                requests: 0,
                since_ms: service.now_ms,
                started: service.wall,
                seen: 0,
                counted: false,
                continued: false,
                tarpit_until_ms: 0,
                draining: false,
                page: None,
                answered_bytes: 0,
            };
            if !connection.config(service).http {
                let given = Given { status: 0, flags: "SC--", server: "<NOSRV>", logged: true };
                service.statistics.proxies[usize::from(proxy)].add(Count::OtherSessions, 1);
                connection.log(service, None, given, 0);
            } else {
                service.statistics.proxies[usize::from(proxy)].add(Count::H1Sessions, 1);
                if connection.config(service).format.is_none() {
                    connection.log_text(service, |scene, out| {
                        if let Ok(format) = rules::Format::compile(rules::CONNECTION_LOG.as_bytes(), false, &[]) {
                            format.write(scene, out);
                        }
                    });
                }
            }
            connection
        }

        /// Takes the connection out of the counters. A request that is still
        /// in hand was answered by nothing.
        pub fn closed(&mut self, service: &mut Service) {
            if self.counted {
                let status = if self.page.is_some() { 200 } else { 0 };
                self.finish(service, None, Given { status: 0, flags: "CD--", ..Given::rule(status) }, 0);
            }
            service.statistics.proxies[usize::from(self.proxy)].sessions -= 1;
            service.statistics.process.connections -= 1;
        }

        fn config(&self, service: &Service) -> &'static Proxy {
            &service.config.proxies[usize::from(self.proxy)]
        }

        /// No request has begun.
        pub fn idle(&self, input: &[u8]) -> bool {
            input.is_empty() && self.page.is_none() && !self.draining && !self.counted
        }

        /// Goes as far as input and room allow. Says how many bytes of the
        /// input are done with, and what comes next.
        pub fn advance(&mut self, service: &mut Service, input: &[u8], end: bool, out: &mut Out) -> (usize, Next) {
            let mut used = 0;
            loop {
                if self.draining {
                    return (input.len(), if end { Next::Close } else { Next::Read });
                }
                if self.page.is_some() {
                    match self.go_on_with_page(service, out) {
                        Next::Read => continue,
                        next => return (used, next),
                    }
                }
                let blank = http::blank_lines(&input[used..]);
                used += blank;
                let (taken, next) = self.head(service, &input[used..], end, out);
                used += taken;
                match next {
                    // the next of several pipelined requests
                    Next::Read if used < input.len() && (taken > 0 || self.page.is_some()) => {}
                    Next::Read if self.page.is_some() => return (used, Next::Write),
                    Next::Read if end => return (used, Next::Close),
                    next => return (used, next),
                }
            }
        }

        /// Looks for one request at the start of the input.
        fn head(&mut self, service: &mut Service, input: &[u8], end: bool, out: &mut Out) -> (usize, Next) {
            if input.is_empty() {
                if end && self.requests == 0 && !self.counted {
                    // a probe: closed without a word, but told in the log
                    self.log_probe(service, "CR--", 400);
                }
                return (0, Next::Read);
            }
            let limit = service.config.head_limit();
            let seen = (self.seen as usize).min(input.len());
            if seen > 0 && !end && input.len() < limit && !input[seen..].contains(&b'\n') {
                self.seen = input.len() as u32;
                return (0, Next::Read);
            }
            if seen == 0 && !self.counted {
                self.started = service.wall;
                if self.requests > 0 {
                    self.since_ms = service.now_ms;
                }
            }
            let mut slots = [http::EMPTY_HEADER; http::MAX_HEADERS];
            match http::parse(input, &mut slots) {
                Parsed::Partial if input.len() >= limit => self.bad(service, 400, "PR--", out),
                Parsed::Partial if end => self.bad(service, 400, "CR--", out),
                Parsed::Partial => {
                    self.seen = input.len() as u32;
                    (0, Next::Read)
                }
                Parsed::Bad(status) => self.bad(service, status, "PR--", out),
                Parsed::Http2 => {
                    out.put(HTTP2_REFUSAL);
                    self.refuse(service, 505, "PR--", HTTP2_REFUSAL.len() as u64)
                }
                Parsed::Head(request) if request.length > limit => self.bad(service, 400, "PR--", out),
                Parsed::Head(request) => self.request(service, &request, input, end, out),
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
            self.count_request(service, Count::H1Requests);
            let config = self.config(service);
            let kept = request.keep_alive && whole && !end && !config.flags.http_close;
            let persistence = match (kept && !service.statistics.process.stopping, request.tell_keep_alive) {
                (false, _) => Persistence::Close,
                (true, true) => Persistence::KeepTold,
                (true, false) => Persistence::Keep,
            };
            let taken = request.length + body;
            let next = match self.dispatch(
                service,
                request,
                persistence,
                whole,
                input.len() == service.config.bufsize,
                end,
                out,
            ) {
                Ok(next) => next,
                Err(Pending(next)) => return (0, next),
            };
            // what else comes after a last answer is not looked at
            let next = match next {
                Next::Read if persistence == Persistence::Close && self.page.is_none() => {
                    self.draining = !whole || taken < input.len();
                    if self.draining { self.linger(service) } else { Next::Close }
                }
                next => next,
            };
            (taken, next)
        }

        fn linger(&mut self, service: &Service) -> Next {
            self.draining = true;
            self.since_ms = service.now_ms;
            Next::Linger
        }

        fn count_request(&mut self, service: &mut Service, kind: Count) {
            if !self.counted {
                self.counted = true;
                let counters = &mut service.statistics.proxies[usize::from(self.proxy)];
                counters.add(kind, 1);
                counters.request_rate.add(service.now_ms, 1);
                service.statistics.process.requests_total += 1;
            }
        }

        /// Decides who answers, in HAProxy's order: monitor-uri, http-request
        /// rules, stats, and 503 for the rest.
        #[allow(clippy::too_many_arguments)]
        fn dispatch(
            &mut self,
            service: &mut Service,
            request: &Request,
            persistence: Persistence,
            whole: bool,
            full: bool,
            end: bool,
            out: &mut Out,
        ) -> Result<Next, Pending> {
            let config = self.config(service);
            let scene = self.scene(service, Some(request), Outcome::PENDING);
            if config.monitor_uri.as_deref() == Some(request.target) {
                let failed = config.monitor_fail.iter().any(|condition| condition.holds(&config.acls, &scene));
                let reply = config.reply(if failed { 503 } else { 200 });
                let given = Given { logged: false, ..Given::rule(reply.status) };
                return self.give(service, request, reply, given, persistence, out);
            }
            for rule in &config.rules {
                if !rule.holds(&config.acls, &scene) {
                    continue;
                }
                match &rule.action {
                    Action::Allow => break,
                    Action::Return(reply) => {
                        let given = Given::rule(reply.status);
                        return self.intercept(service, request, reply, given, persistence, out);
                    }
                    Action::Deny(reply) => return self.deny(service, request, reply, persistence, out),
                    Action::Tarpit(reply) => {
                        if self.tarpit_until_ms == 0 {
                            let wait = config.timeouts.tarpit.or(config.timeouts.client).unwrap_or(0);
                            self.tarpit_until_ms = service.now_ms + u64::from(wait);
                        }
                        if service.now_ms < self.tarpit_until_ms {
                            return Err(Pending(Next::Wait));
                        }
                        return self.deny(service, request, reply, persistence, out);
                    }
                    Action::Reject => {
                        service.statistics.proxies[usize::from(self.proxy)].add(Count::Denied, 1);
                        self.finish(service, Some(request), Given { flags: "PR--", ..Given::rule(0) }, 0);
                        return Err(Pending(Next::Close));
                    }
                    Action::Metrics => {
                        let Some(page) = Page::metrics(self.proxy, request.query()) else {
                            let given = Given { server: "<PROMEX>", ..Given::rule(400) };
                            return self.intercept(service, request, config.reply(400), given, Persistence::Close, out);
                        };
                        return self.give_page(service, request, page, "<PROMEX>", persistence, out);
                    }
                }
            }
            if let Some(stats) = &config.stats
                && matches!(request.method, b"GET" | b"HEAD" | b"POST")
                && let Some(options) = request.local().strip_prefix(stats.uri.as_slice())
            {
                if let Some(refusal) = stats_refusal(stats, request, config, &scene) {
                    return match refusal {
                        Action::Deny(reply) => self.deny(service, request, reply, persistence, out),
                        Action::Return(reply) => {
                            let given = Given { flags: "PR--", server: "<STATS>", ..Given::rule(reply.status) };
                            self.intercept(service, request, reply, given, persistence, out)
                        }
                        _ => Ok(Next::Read),
                    };
                }
                if request.method == b"POST" {
                    return self.post_stats(service, request, stats, persistence, (whole, full, end), out);
                }
                let page = Page::stats(self.proxy, options);
                return self.give_page(service, request, page, "<STATS>", persistence, out);
            }
            let given = Given { flags: "SC--", ..Given::rule(503) };
            let next = self.give(service, request, config.reply(503), given, persistence, out)?;
            let counters = &mut service.statistics.proxies[usize::from(self.proxy)];
            counters.add(Count::NoServer, 1);
            counters.backend_rate.add(service.now_ms, 1);
            counters.backend_last_ms = Some(service.now_ms);
            Ok(next)
        }

        /// The page is read-only, so a POST is sent back to it, after its
        /// body: (arrived, fills the buffer, cannot arrive any more).
        fn post_stats(
            &mut self,
            service: &mut Service,
            request: &Request,
            stats: &Stats,
            persistence: Persistence,
            (whole, full, end): (bool, bool, bool),
            out: &mut Out,
        ) -> Result<Next, Pending> {
            if !whole && !full {
                if end {
                    return Err(Pending(self.bad(service, 400, "CR--", out).1));
                }
                if request.expects_continue && !self.continued {
                    out.put("HTTP/1.1 100 Continue\r\n\r\n");
                    self.continued = true;
                }
                return Err(Pending(Next::Read));
            }
            let state = if whole { ";st=DENY" } else { ";st=EXCD" };
            let location = rules::Format::literal(&cat!(stats.uri, state));
            let reply = Reply::redirect(303, location, None);
            let given = Given { server: "<STATS>", ..Given::rule(303) };
            self.intercept(service, request, &reply, given, persistence, out)
        }

        fn deny(
            &mut self,
            service: &mut Service,
            request: &Request,
            reply: &Reply,
            persistence: Persistence,
            out: &mut Out,
        ) -> Result<Next, Pending> {
            let given = Given { flags: "PR--", ..Given::rule(reply.status) };
            let next = self.give(service, request, reply, given, persistence, out)?;
            service.statistics.proxies[usize::from(self.proxy)].add(Count::Denied, 1);
            Ok(next)
        }

        /// An answer of a rule or a service counts as intercepted.
        fn intercept(
            &mut self,
            service: &mut Service,
            request: &Request,
            reply: &Reply,
            given: Given,
            persistence: Persistence,
            out: &mut Out,
        ) -> Result<Next, Pending> {
            let next = self.give(service, request, reply, given, persistence, out)?;
            service.statistics.proxies[usize::from(self.proxy)].add(Count::Intercepted, 1);
            Ok(next)
        }

        /// Writes a reply and settles the accounts of its request.
        fn give(
            &mut self,
            service: &mut Service,
            request: &Request,
            reply: &Reply,
            given: Given,
            persistence: Persistence,
            out: &mut Out,
        ) -> Result<Next, Pending> {
            let mark = out.len();
            let outcome = Outcome { status: reply.status.into(), ..Outcome::PENDING };
            let scene = self.scene(service, Some(request), outcome);
            reply.write(&scene, request.is_head(), persistence, out);
            if out.full {
                out.truncate(mark);
                if mark > 0 {
                    return Err(Pending(Next::Write));
                }
                // a format string that grew beyond a buffer
                service.statistics.proxies[usize::from(self.proxy)].add(Count::InternalErrors, 1);
                let reply = self.config(service).reply(500);
                reply.write(&scene, request.is_head(), persistence, out);
                self.finish(
                    service,
                    Some(request),
                    Given { flags: "PR--", ..Given::rule(500) },
                    (out.len() - mark) as u64,
                );
                return Ok(Next::Read);
            }
            self.finish(service, Some(request), given, (out.len() - mark) as u64);
            Ok(Next::Read)
        }

        /// Writes a page, whole with its length if one buffer holds it, else
        /// its first part; [`Self::go_on_with_page`] writes the others.
        fn give_page(
            &mut self,
            service: &mut Service,
            request: &Request,
            mut page: Page,
            server: &'static str,
            persistence: Persistence,
            out: &mut Out,
        ) -> Result<Next, Pending> {
            let mark = out.len();
            if out.room() < 2 * PAGE_HEAD {
                return Err(Pending(Next::Write));
            }
            out.keep_free(PAGE_HEAD);
            // this request is in the page already, as intercepted too
            service.statistics.proxies[usize::from(self.proxy)].add(Count::Intercepted, 1);
            let complete = page.write(&service.view(), out);
            out.keep_free(0);
            if !complete && mark > 0 {
                out.truncate(mark);
                // undone: it will be asked again with an empty buffer
                service.statistics.proxies[usize::from(self.proxy)].add(Count::Intercepted, 0u64.wrapping_sub(1));
                return Err(Pending(Next::Write));
            }
            let chunked = !complete && request.version != b"HTTP/1.0";
            let keep = persistence != Persistence::Close && (complete || chunked);
            let mut head = [0; PAGE_HEAD];
            let mut fields = Out::new(&mut head, 0);
            let body = out.len() - mark;
            page.fields(service.config, &mut fields);
            if complete {
                fields.put("content-length: ");
                fields.num(body);
                fields.put("\r\n");
            } else if chunked {
                fields.put("transfer-encoding: chunked\r\n");
            }
            fields.put(if keep { persistence } else { Persistence::Close }.field());
            fields.put("\r\n");
            if request.is_head() {
                out.truncate(mark);
            } else if chunked {
                chunk_size(body, &mut fields);
                out.put("\r\n");
            }
            out.insert(mark, fields.written());
            let given = Given { server, ..Given::rule(200) };
            let bytes = (out.len() - mark) as u64;
            if complete || request.is_head() {
                self.finish(service, Some(request), given, bytes);
            } else {
                self.answered_bytes = bytes;
                self.page = Some((page, Framing { chunked, keep }));
            }
            Ok(Next::Read)
        }

        /// Writes the next part of a long page once the one before is sent.
        fn go_on_with_page(&mut self, service: &mut Service, out: &mut Out) -> Next {
            let Some((mut page, framing)) = self.page.take() else { return Next::Read };
            if out.len() > 0 {
                self.page = Some((page, framing));
                return Next::Write;
            }
            out.keep_free(PAGE_HEAD);
            let complete = page.write(&service.view(), out);
            out.keep_free(0);
            let body = out.len();
            if framing.chunked && body > 0 {
                let mut size = [0; 16];
                let mut line = Out::new(&mut size, 0);
                chunk_size(body, &mut line);
                out.insert(0, line.written());
                out.put("\r\n");
            }
            if framing.chunked && complete {
                out.put("0\r\n\r\n");
            }
            self.answered_bytes += out.len() as u64;
            if !complete {
                self.page = Some((page, framing));
                return Next::Write;
            }
            self.finish(service, None, Given { server: "<STATS>", ..Given::rule(200) }, self.answered_bytes);
            if framing.keep { Next::Read } else { Next::Close }
        }

        /// Answers what is no request, and closes.
        fn bad(&mut self, service: &mut Service, status: u16, flags: &'static str, out: &mut Out) -> (usize, Next) {
            let mark = out.len();
            let scene = self.scene(service, None, Outcome::PENDING);
            self.config(service).reply(status).write(&scene, false, Persistence::Close, out);
            if out.full {
                out.truncate(mark);
                return (0, Next::Write);
            }
            let bytes = (out.len() - mark) as u64;
            self.refuse(service, status, flags, bytes)
        }

        /// Counts and logs what was no request; the connection ends here.
        fn refuse(&mut self, service: &mut Service, status: u16, flags: &'static str, bytes: u64) -> (usize, Next) {
            self.count_request(service, Count::OtherRequests);
            service.statistics.proxies[usize::from(self.proxy)].add(Count::BadRequests, 1);
            self.finish(service, None, Given { flags, ..Given::rule(status) }, bytes);
            (0, self.linger(service))
        }

        /// The deadline has come. None means to go on with [`Self::advance`].
        pub fn expired(&mut self, service: &mut Service, input: &[u8], out: &mut Out) -> Option<Next> {
            if self.tarpit_until_ms > 0 {
                return None;
            }
            if self.draining || self.page.is_some() {
                return Some(Next::Close);
            }
            if input.is_empty() && self.requests > 0 {
                return Some(Next::Close);
            }
            if input.is_empty() && self.config(service).flags.ignore_probes {
                return Some(Next::Close);
            }
            Some(self.bad(service, 408, "cR--", out).1)
        }

        /// When the wait that goes on now ends, in milliseconds since the
        /// start; `u64::MAX` for never.
        pub fn deadline(&self, service: &Service, input: &[u8], sending: bool) -> u64 {
            let timeouts = &self.config(service).timeouts;
            let from = |start: u64, timeout: Option<u32>| timeout.map_or(u64::MAX, |ms| start + u64::from(ms));
            if sending || self.page.is_some() {
                return from(service.now_ms, timeouts.client);
            }
            if self.draining {
                return self.since_ms + LINGER_MS;
            }
            if self.tarpit_until_ms > 0 {
                return self.tarpit_until_ms;
            }
            if input.is_empty() && self.requests > 0 {
                let timeout = timeouts.http_keep_alive.or(timeouts.http_request).or(timeouts.client);
                return from(self.since_ms, timeout);
            }
            match timeouts.http_request {
                Some(_) => from(self.since_ms, timeouts.http_request),
                None => from(service.now_ms, timeouts.client),
            }
        }

        // ---- accounts ------------------------------------------------------

        /// One request less in hand: counts and logs how it ended.
        fn finish(&mut self, service: &mut Service, request: Option<&Request>, given: Given, bytes: u64) {
            let bytes_in = request.map_or(0, |request| request.length as u64);
            let counters = &mut service.statistics.proxies[usize::from(self.proxy)];
            let class = usize::from(given.status / 100);
            counters.answered[if class < 6 { class } else { 0 }] += 1;
            counters.add(Count::BytesIn, bytes_in);
            counters.add(Count::BytesOut, bytes);
            counters.add(Count::WireOut, bytes);
            service.statistics.process.bytes_out += bytes;
            service.statistics.process.bytes_rate.add(service.now_ms, bytes);
            if given.logged && !self.config(service).targets.is_empty() {
                self.log(service, request, given, bytes);
            }
            self.counted = false;
            self.continued = false;
            self.tarpit_until_ms = 0;
            self.seen = 0;
            self.requests += 1;
            self.since_ms = service.now_ms;
        }

        fn log(&self, service: &mut Service, request: Option<&Request>, given: Given, bytes: u64) {
            let config = self.config(service);
            let normal = given.flags == "LR--" && given.status < 500;
            let Some(format) = config.format.as_ref().filter(|_| !(normal && config.flags.dont_log_normal)) else {
                return;
            };
            let server = given.server != "<NOSRV>";
            let outcome = Outcome {
                status: if given.status == 0 { -1 } else { given.status.into() },
                bytes_in: request.map_or(0, |request| request.length as u64),
                bytes_out: bytes,
                flags: given.flags,
                server: given.server,
                request_ms: if given.flags == "LR--" || server { (service.now_ms - self.since_ms) as i64 } else { -1 },
                waited_ms: if server { 0 } else { -1 },
                total_ms: (service.now_ms - self.since_ms) as i64,
            };
            let scene = self.scene(service, request, outcome);
            for target in config.targets.iter().filter(|target| target.level >= 6) {
                service
                    .log
                    .line(target, service.wall, &config.tag, &service.config.node, |out| format.write(&scene, out));
            }
        }

        /// Logs a connection on which nothing was asked.
        fn log_probe(&self, service: &mut Service, flags: &'static str, status: u16) {
            if !self.config(service).flags.dont_log_null {
                self.log(service, None, Given { flags, ..Given::rule(status) }, 0);
            }
        }

        fn log_text(&self, service: &mut Service, write: impl Fn(&Scene, &mut Out)) {
            let config = self.config(service);
            let scene = self.scene(service, None, Outcome::PENDING);
            for target in config.targets.iter().filter(|target| target.level >= 6) {
                service.log.line(target, service.wall, &config.tag, &service.config.node, |out| write(&scene, out));
            }
        }

        fn scene<'a>(&self, service: &Service, request: Option<&'a Request<'a, 'a>>, outcome: Outcome) -> Scene<'a> {
            let config: &'static Config = service.config;
            Scene {
                request,
                frontend: &config.proxies[usize::from(self.proxy)].name,
                peer: self.peer,
                local: self.local,
                started: self.started,
                outcome,
                connections: (
                    service.statistics.process.connections,
                    service.statistics.proxies[usize::from(self.proxy)].sessions,
                ),
                requests: service.statistics.process.requests_total,
                userlists: &config.userlists,
                node: &config.node,
            }
        }
    }

    /// A request that cannot be settled now.
    struct Pending(Next);

    /// Size line of a chunk (RFC 9112 §7.1).
    fn chunk_size(size: usize, out: &mut Out) {
        let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
        for shift in (0..digits).rev() {
            out.put([b"0123456789abcdef"[size >> (4 * shift) & 15]]);
        }
        out.put("\r\n");
    }

    /// The rule of the stats page that keeps a request out.
    fn stats_refusal<'a>(stats: &'a Stats, request: &Request, config: &Proxy, scene: &Scene) -> Option<&'a Action> {
        let last = stats.rules.len().wrapping_sub(1);
        for (at, rule) in stats.rules.iter().enumerate() {
            if !rule.holds(&config.acls, scene) {
                continue;
            }
            // the last rule stands for the `stats auth` lines, if there are any
            let by_auth = at == last && !stats.users().is_empty();
            if by_auth && rules::authenticated(request, stats.users()) || matches!(rule.action, Action::Allow) {
                return None;
            }
            return Some(&rule.action);
        }
        None
    }
}

/// Counters, the table of columns, and every format of the statistics.
/// Owns the numbers; reads config; writes with out.
mod stats {
    use self::Count::*;
    use self::Source::*;
    use crate::config::{Config, Kind as ProxyKind, Proxy};
    use crate::http;
    use crate::out::Out;

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

        pub fn get(&self, count: Count) -> u64 {
            self.counts[count as usize]
        }

        pub fn requests(&self) -> u64 {
            self.get(H1Requests) + self.get(OtherRequests)
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
    }

    /// Where a column gets its value from.
    #[derive(Clone, Copy)]
    enum Source {
        Absent,
        Dash,
        Zero,
        One,
        Name,
        Side,
        Id,
        Type,
        Status,
        Mode,
        Algorithm,
        Uptime,
        Sessions,
        SessionsMax,
        SessionsLimit,
        SessionsTotal,
        SessionRate,
        SessionRateMax,
        ConnectionRate,
        ConnectionRateMax,
        RequestRate,
        RequestRateMax,
        RequestsTotal,
        LastSession,
        OpenStreams,
        Answered(usize),
        Counted(Count),
    }

    /// Name; tags (origin, nature, scope) for a frontend and for a backend,
    /// empty where it does not fill the column; where the value comes from;
    /// name of the frontend's metric.
    type Column = (&'static str, &'static str, &'static str, Source, &'static str);

    #[rustfmt::skip]
    const COLUMNS: [Column; 138] = [
        ("pxname", "KNS", "KNS", Name, ""),
        ("svname", "KNS", "KNS", Side, ""),
        ("qcur", "", "MGP", Zero, ""),
        ("qmax", "", "MMP", Zero, ""),
        ("scur", "MGP", "MGP", Sessions, "current_sessions"),
        ("smax", "MMP", "MMP", SessionsMax, "max_sessions"),
        ("slim", "CLP", "CLP", SessionsLimit, "limit_sessions"),
        ("stot", "MCP", "MCP", SessionsTotal, "sessions_total"),
        ("bin", "MCP", "MCP", Counted(BytesIn), "bytes_in_total"),
        ("bout", "MCP", "MCP", Counted(BytesOut), "bytes_out_total"),
        ("dreq", "MCP", "MCP", Counted(Denied), "requests_denied_total"),
        ("dresp", "MCP", "MCP", Zero, "responses_denied_total"),
        ("ereq", "MCP", "", Counted(BadRequests), "request_errors_total"),
        ("econ", "", "MCP", Counted(NoServer), ""),
        ("eresp", "", "MCP", Zero, ""),
        ("wretr", "", "MCP", Zero, ""),
        ("wredis", "", "MCP", Zero, ""),
        ("status", "SGP", "SGP", Status, "status"),
        ("weight", "", "MaP", Zero, ""),
        ("act", "", "MGP", Zero, ""),
        ("bck", "", "MGP", Zero, ""),
        ("chkfail", "", "", Absent, ""),
        ("chkdown", "", "MCP", Zero, ""),
        ("lastchg", "", "MAP", Uptime, ""),
        ("downtime", "", "", Absent, ""),
        ("qlimit", "", "", Absent, ""),
        ("pid", "KGP", "KGP", One, ""),
        ("iid", "KGS", "KGS", Id, ""),
        ("sid", "KGS", "KGS", Zero, ""),
        ("throttle", "", "", Absent, ""),
        ("lbtot", "", "MCP", Zero, ""),
        ("tracked", "", "", Absent, ""),
        ("type", "CGS", "CGS", Type, ""),
        ("rate", "MRP", "MGP", SessionRate, ""),
        ("rate_lim", "CLP", "", Zero, "limit_session_rate"),
        ("rate_max", "MMP", "MGP", SessionRateMax, "max_session_rate"),
        ("check_status", "", "", Absent, ""),
        ("check_code", "", "", Absent, ""),
        ("check_duration", "", "", Absent, ""),
        ("hrsp_1xx", "MCP", "MCP", Answered(1), "http_responses_total"),
        ("hrsp_2xx", "MCP", "MCP", Answered(2), "http_responses_total"),
        ("hrsp_3xx", "MCP", "MCP", Answered(3), "http_responses_total"),
        ("hrsp_4xx", "MCP", "MCP", Answered(4), "http_responses_total"),
        ("hrsp_5xx", "MCP", "MCP", Answered(5), "http_responses_total"),
        ("hrsp_other", "MCP", "MCP", Answered(0), "http_responses_total"),
        ("hanafail", "", "", Absent, ""),
        ("req_rate", "MRP", "", RequestRate, ""),
        ("req_rate_max", "MMP", "", RequestRateMax, "http_requests_rate_max"),
        ("req_tot", "MCP", "MCP", RequestsTotal, "http_requests_total"),
        ("cli_abrt", "", "MCP", Zero, ""),
        ("srv_abrt", "", "MCP", Zero, ""),
        ("comp_in", "MCP", "MCP", Zero, "http_comp_bytes_in_total"),
        ("comp_out", "MCP", "MCP", Zero, "http_comp_bytes_out_total"),
        ("comp_byp", "MCP", "MCP", Zero, "http_comp_bytes_bypassed_total"),
        ("comp_rsp", "MCP", "MCP", Zero, "http_comp_responses_total"),
        ("lastsess", "", "MAP", LastSession, ""),
        ("last_chk", "", "", Absent, ""),
        ("last_agt", "", "", Absent, ""),
        ("qtime", "", "MaP", Zero, ""),
        ("ctime", "", "MaP", Zero, ""),
        ("rtime", "", "MaP", Zero, ""),
        ("ttime", "", "MaP", Zero, ""),
        ("agent_status", "", "", Absent, ""),
        ("agent_code", "", "", Absent, ""),
        ("agent_duration", "", "", Absent, ""),
        ("check_desc", "", "", Absent, ""),
        ("agent_desc", "", "", Absent, ""),
        ("check_rise", "", "", Absent, ""),
        ("check_fall", "", "", Absent, ""),
        ("check_health", "", "", Absent, ""),
        ("agent_rise", "", "", Absent, ""),
        ("agent_fall", "", "", Absent, ""),
        ("agent_health", "", "", Absent, ""),
        ("addr", "", "", Absent, ""),
        ("cookie", "", "", Absent, ""),
        ("mode", "CGS", "CGS", Mode, ""),
        ("algo", "", "CGS", Algorithm, ""),
        ("conn_rate", "MRP", "", ConnectionRate, ""),
        ("conn_rate_max", "MMP", "", ConnectionRateMax, "connections_rate_max"),
        ("conn_tot", "MCP", "", Counted(Connections), "connections_total"),
        ("intercepted", "MCP", "", Counted(Intercepted), "intercepted_requests_total"),
        ("dcon", "MCP", "", Zero, "denied_connections_total"),
        ("dses", "MCP", "", Zero, "denied_sessions_total"),
        ("wrew", "MCP", "MCP", Zero, "failed_header_rewriting_total"),
        ("connect", "", "MCP", Zero, ""),
        ("reuse", "", "MCP", Zero, ""),
        ("cache_lookups", "MCP", "MCP", Zero, "http_cache_lookups_total"),
        ("cache_hits", "MCP", "MCP", Zero, "http_cache_hits_total"),
        ("srv_icur", "", "", Absent, ""),
        ("src_ilim", "", "", Absent, ""),
        ("qtime_max", "", "MMP", Zero, ""),
        ("ctime_max", "", "MMP", Zero, ""),
        ("rtime_max", "", "MMP", Zero, ""),
        ("ttime_max", "", "MMP", Zero, ""),
        ("eint", "MCP", "MCP", Counted(InternalErrors), "internal_errors_total"),
        ("idle_conn_cur", "", "", Absent, ""),
        ("safe_conn_cur", "", "", Absent, ""),
        ("used_conn_cur", "", "", Absent, ""),
        ("need_conn_est", "", "", Absent, ""),
        ("uweight", "", "MaP", Zero, ""),
        ("agg_server_status", "", "MGP", Zero, ""),
        ("agg_server_check_status", "", "MGP", Zero, ""),
        ("agg_check_status", "", "MGP", Zero, ""),
        ("srid", "", "", Absent, ""),
        ("sess_other", "MCP", "", Counted(OtherSessions), ""),
        ("h1sess", "MCP", "", Counted(H1Sessions), ""),
        ("h2sess", "MCP", "", Zero, ""),
        ("h3sess", "MCP", "", Zero, ""),
        ("req_other", "MCP", "", Counted(OtherRequests), ""),
        ("h1req", "MCP", "", Counted(H1Requests), ""),
        ("h2req", "MCP", "", Zero, ""),
        ("h3req", "MCP", "", Zero, ""),
        ("proto", "", "", Absent, ""),
        ("-", "", "", Dash, ""),
        ("ssl_sess", "MCP", "MCP", Zero, ""),
        ("ssl_reused_sess", "MCP", "MCP", Zero, ""),
        ("ssl_failed_handshake", "MCP", "MCP", Zero, ""),
        ("h2_headers_rcvd", "MCP", "MCP", Zero, ""),
        ("h2_data_rcvd", "MCP", "MCP", Zero, ""),
        ("h2_settings_rcvd", "MCP", "MCP", Zero, ""),
        ("h2_rst_stream_rcvd", "MCP", "MCP", Zero, ""),
        ("h2_goaway_rcvd", "MCP", "MCP", Zero, ""),
        ("h2_detected_conn_protocol_errors", "MCP", "MCP", Zero, ""),
        ("h2_detected_strm_protocol_errors", "MCP", "MCP", Zero, ""),
        ("h2_rst_stream_resp", "MCP", "MCP", Zero, ""),
        ("h2_goaway_resp", "MCP", "MCP", Zero, ""),
        ("h2_open_connections", "MGP", "MGP", Zero, ""),
        ("h2_backend_open_streams", "MGP", "MGP", Zero, ""),
        ("h2_total_connections", "MCP", "MCP", Zero, ""),
        ("h2_backend_total_streams", "MCP", "MCP", Zero, ""),
        ("h1_open_connections", "MGP", "MGP", Sessions, ""),
        ("h1_open_streams", "MGP", "MGP", OpenStreams, ""),
        ("h1_total_connections", "MCP", "MCP", Counted(H1Sessions), ""),
        ("h1_total_streams", "MCP", "MCP", Counted(H1Requests), ""),
        ("h1_bytes_in", "MCP", "MCP", Counted(WireIn), ""),
        ("h1_bytes_out", "MCP", "MCP", Counted(WireOut), ""),
        ("h1_spliced_bytes_in", "MCP", "MCP", Zero, ""),
        ("h1_spliced_bytes_out", "MCP", "MCP", Zero, ""),
    ];

    enum Value<'a> {
        Text(&'a [u8]),
        U32(u64),
        U64(u64),
        S32(i64),
    }

    /// A table's line: a proxy's frontend side or its backend side.
    struct Row<'a> {
        view: &'a View<'a>,
        proxy: &'a Proxy,
        counters: &'a Counters,
        backend: bool,
    }

    impl<'a> Row<'a> {
        fn tags(&self, column: &Column) -> &'static [u8] {
            if self.backend { column.2.as_bytes() } else { column.1.as_bytes() }
        }

        /// What stands in a column, None where it stays empty.
        fn value(&self, column: &Column) -> Option<Value<'a>> {
            let tags = self.tags(column);
            if tags.is_empty() {
                return None;
            }
            let text = match column.3 {
                Name => Some(self.proxy.name.as_slice()),
                Side => Some(if self.backend { &b"BACKEND"[..] } else { b"FRONTEND" }),
                Status => Some(self.status().as_bytes()),
                Mode => Some(if self.proxy.http { &b"http"[..] } else { b"tcp" }),
                Algorithm => Some(&b"roundrobin"[..]),
                _ => None,
            };
            if let Some(text) = text {
                return Some(Value::Text(text));
            }
            if let LastSession = column.3 {
                let last = self.counters.backend_last_ms;
                return Some(Value::S32(last.map_or(-1, |ms| (self.view.now_ms.saturating_sub(ms) / 1000) as i64)));
            }
            let number = self.number(column.3);
            // counters are 64 bits wide, and so are the gauges of the HTTP muxes
            let wide = tags[1] == b'C' || column.0.starts_with("h1_") || column.0.starts_with("h2_");
            Some(if wide { Value::U64(number) } else { Value::U32(number) })
        }

        fn status(&self) -> &'static str {
            match (self.view.statistics.process.stopping || self.proxy.disabled, self.backend) {
                (true, _) => "STOP",
                (false, true) => "UP",
                (false, false) => "OPEN",
            }
        }

        fn number(&self, source: Source) -> u64 {
            let (counters, now) = (self.counters, self.view.now_ms);
            if self.backend {
                // all that reaches the backend side is answered 503
                return match source {
                    SessionsTotal | RequestsTotal | Answered(5) => counters.get(NoServer),
                    SessionsMax => counters.get(NoServer).min(1),
                    SessionsLimit => u64::from(self.limit()).div_ceil(10),
                    SessionRate => counters.backend_rate.read(now),
                    SessionRateMax => counters.backend_rate.max,
                    Counted(count @ (BytesIn | BytesOut | NoServer)) => counters.get(count),
                    Uptime => now / 1000,
                    One | Type => 1,
                    Id => u64::from(self.proxy.id),
                    _ => 0,
                };
            }
            match source {
                One => 1,
                Id => u64::from(self.proxy.id),
                Sessions => counters.sessions,
                SessionsMax => counters.sessions_max,
                SessionsLimit => u64::from(self.limit()),
                SessionsTotal => counters.get(Connections),
                SessionRate | ConnectionRate => counters.connection_rate.read(now),
                SessionRateMax | ConnectionRateMax => counters.connection_rate.max,
                RequestRate => counters.request_rate.read(now),
                RequestRateMax => counters.request_rate.max,
                RequestsTotal => counters.requests(),
                OpenStreams => counters.requests() - counters.answered.iter().sum::<u64>(),
                Answered(class) => counters.answered[class],
                Counted(count) => counters.get(count),
                Uptime => now / 1000,
                _ => 0,
            }
        }

        fn limit(&self) -> u32 {
            self.proxy.maxconn.unwrap_or(self.view.statistics.process.maxconn)
        }
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
            page.banner = BANNERS.iter().find(|banner| has(banner.0)).map(|banner| banner.1);
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
            out.put("HTTP/1.1 200 OK\r\ncache-control: no-cache\r\ncontent-type: ");
            out.put(match self.kind {
                Kind::Html => "text/html; charset=utf-8",
                Kind::Csv | Kind::Typed => "text/plain",
                Kind::Json | Kind::Schema => "application/json",
                Kind::Metrics => "text/plain; version=0.0.4",
            });
            out.put("\r\n");
            let refresh = self.refresh(config);
            if refresh > 0 && !self.no_refresh {
                out.put("refresh: ");
                out.num(refresh);
                out.put("\r\n");
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

        /// Writes one piece, of 3 KiB at most; false for the last one.
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
            let counters = &view.statistics.proxies[at / 2];
            Some(shown.then_some(Row { view, proxy, counters, backend }))
        }

        fn shows(&self, config: &Config, proxy: &Proxy) -> bool {
            let owner = &config.proxies[usize::from(self.owner)];
            let scope = &self.scope[..usize::from(self.scope_len)];
            let limited = owner.stats.as_ref().map_or(&[][..], |stats| &stats.scope[..]);
            let named = |name: &Vec<u8>| *name == proxy.name || name == b"." && proxy.name == owner.name;
            !proxy.disabled
                && (limited.is_empty() || limited.iter().any(named))
                && (scope.is_empty() || proxy.name.windows(scope.len()).any(|part| part.eq_ignore_ascii_case(scope)))
        }

        fn csv_piece(&self, view: &View, piece: usize, out: &mut Out) -> bool {
            if piece == 0 {
                out.put("# ");
                for column in &COLUMNS {
                    out.put(column.0);
                    out.put(",");
                }
                out.put("\n");
                return true;
            }
            let Some(row) = self.row(view, piece - 1) else { return false };
            if let Some(row) = row {
                for column in &COLUMNS {
                    match (row.value(column), column.3) {
                        (Some(Value::Text(text)), _) => out.put(text),
                        (Some(Value::U32(number) | Value::U64(number)), _) => out.num(number),
                        (Some(Value::S32(number)), _) => out.num(number),
                        (None, Dash) => out.put("-"),
                        (None, _) => {}
                    }
                    out.put(",");
                }
                out.put("\n");
            }
            true
        }

        fn typed_piece(&self, view: &View, piece: usize, out: &mut Out) -> bool {
            let (at, column) = (piece / COLUMNS.len(), piece % COLUMNS.len());
            let Some(row) = self.row(view, at) else { return false };
            let Some(row) = row else { return true };
            let line = &COLUMNS[column];
            let Some(value) = row.value(line) else { return true };
            out.put(if row.backend { "B." } else { "F." });
            out.num(row.proxy.id);
            out.put(".0.");
            out.num(position(column));
            out.put(".");
            out.put(line.0);
            out.put(".1:");
            out.put(row.tags(line));
            out.put(":");
            let (name, _) = kind(&value);
            out.put(name);
            out.put(":");
            put_value(&value, out, |out, text| out.put(text));
            out.put("\n");
            true
        }

        fn json_piece(&self, view: &View, piece: usize, out: &mut Out) -> bool {
            let rows = view.config.proxies.len() * 2;
            if piece == 0 {
                out.put("[");
                return true;
            }
            let (at, column) = ((piece - 1) / COLUMNS.len(), (piece - 1) % COLUMNS.len());
            if at == rows {
                out.put("]\n");
                return false;
            }
            let Some(Some(row)) = self.row(view, at) else { return true };
            if column == 0 {
                let first = (0..at).all(|before| !matches!(self.row(view, before), Some(Some(_))));
                out.put(if first { "[" } else { ",[" });
            }
            let line = &COLUMNS[column];
            if let Some(value) = row.value(line) {
                let tags = row.tags(line);
                out.put(if column == 0 { "{\"objType\":\"" } else { ",{\"objType\":\"" });
                out.put(if row.backend { "Backend" } else { "Frontend" });
                out.put("\",\"proxyId\":");
                out.num(row.proxy.id);
                out.put(",\"id\":0,\"field\":{\"pos\":");
                out.num(position(column));
                out.put(",\"name\":\"");
                out.put(line.0);
                out.put("\"},\"processNum\":1,\"tags\":{\"origin\":\"");
                out.put(tag(tags[0], b'O'));
                out.put("\",\"nature\":\"");
                out.put(tag(tags[1], b'N'));
                out.put("\",\"scope\":\"");
                out.put(tag(tags[2], b'S'));
                out.put("\"},\"value\":{\"type\":\"");
                let (name, is_text) = kind(&value);
                out.put(name);
                out.put(if is_text { "\",\"value\":\"" } else { "\",\"value\":" });
                put_value(&value, out, |out, text| out.json(text));
                out.put(if is_text { "\"}}" } else { "}}" });
            }
            if column + 1 == COLUMNS.len() {
                out.put("]");
            }
            true
        }

        fn metrics_piece(&self, view: &View, piece: usize, out: &mut Out) -> bool {
            let metrics = if self.global { PROCESS.len() } else { 0 };
            if let Some(line) = PROCESS[..metrics].get(piece) {
                put_help("process", line.0, line.1, out);
                out.put("haproxy_process_");
                out.put(line.0);
                if line.0 == "build_info" {
                    out.put(concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"));
                }
                out.put(" ");
                out.num((line.2)(view));
                out.put("\n");
                return true;
            }
            let proxies = view.config.proxies.len();
            let (column, at) = ((piece - metrics) / proxies, (piece - metrics) % proxies);
            let Some(line) = COLUMNS.get(column).filter(|_| self.frontends) else { return false };
            let row =
                Row { view, proxy: &view.config.proxies[at], counters: &view.statistics.proxies[at], backend: false };
            if line.4.is_empty() {
                return true;
            }
            // the classes of answers are one metric
            if at == 0 && (line.4 != "http_responses_total" || line.0 == "hrsp_1xx") {
                put_help("frontend", line.4, line.1.as_bytes()[1] == b'C', out);
            }
            let number = match row.value(line) {
                Some(Value::U32(number) | Value::U64(number)) => number,
                _ => u64::from(row.status() == "OPEN"),
            };
            if line.4 == "status" {
                put_sample(&row, line.4, "state", "DOWN", 1 - number, out);
                put_sample(&row, line.4, "state", "UP", number, out);
            } else {
                let code = line.0.strip_prefix("hrsp_").unwrap_or("");
                put_sample(&row, line.4, if code.is_empty() { "" } else { "code" }, code, number, out);
            }
            true
        }

        // ---- the page ------------------------------------------------------

        fn html_piece(&self, view: &View, piece: usize, out: &mut Out) -> bool {
            let proxies = view.config.proxies.len();
            match piece {
                0 => {
                    out.put("<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><link rel=icon href='data:,'><title>");
                    let owner = &view.config.proxies[usize::from(self.owner)];
                    out.html(owner.stats.as_ref().and_then(|stats| stats.node.as_ref()).unwrap_or(&owner.name));
                    out.put(": statistics</title><style>");
                    out.put(STYLE);
                    out.put("</style>");
                }
                1 => self.html_head(view, out),
                2 => self.html_options(view, out),
                _ if piece - 3 < proxies => {
                    if let Some(Some(row)) = self.row(view, (piece - 3) * 2) {
                        self.html_proxy(view, &row, out);
                        if let Some(Some(row)) = self.row(view, (piece - 3) * 2 + 1) {
                            html_row(&row, out);
                        }
                        out.put("</table></div>");
                        html_details(&row, out);
                    }
                }
                _ => return false,
            }
            true
        }

        fn html_head(&self, view: &View, out: &mut Out) {
            let owner = &view.config.proxies[usize::from(self.owner)];
            let Some(stats) = &owner.stats else { return };
            let process = &view.statistics.process;
            out.put("<header><h1>Statistics");
            if let Some(node) = &stats.node {
                out.put(" of ");
                out.html(node);
            }
            out.put("</h1>");
            if let Some(description) = &stats.description {
                out.put("<p>");
                out.html(description);
                out.put("</p>");
            }
            out.put("<p>tiny-haproxy");
            if !stats.hide_version {
                out.put(concat!(" version ", env!("CARGO_PKG_VERSION")));
            }
            if process.stopping {
                out.put(" <b class=bad>stopping</b>");
            }
            out.put("</p></header>");
            if let Some(banner) = self.banner {
                out.put("<p class=banner>");
                out.put(banner);
                out.put(" <a href='");
                out.html(&stats.uri);
                out.put("'>Dismiss</a></p>");
            }
            out.put("<dl>");
            let full = process.connections >= u64::from(process.maxconn);
            fact("pid", out, |out| out.num(std::process::id()));
            fact("uptime", out, |out| uptime(view.now_ms / 1000, out));
            fact("current connections", out, |out| {
                out.put(if full { "<b class=bad>" } else { "<b>" });
                grouped(process.connections, out);
                out.put("</b> of ");
                grouped(u64::from(process.maxconn), out);
            });
            fact("most at once", out, |out| grouped(process.connections_max, out));
            fact("times full", out, |out| grouped(process.waits, out));
            fact("connections/s", out, |out| grouped(process.connection_rate.read(view.now_ms), out));
            fact("bits/s out", out, |out| grouped(process.bytes_rate.read(view.now_ms) * 8, out));
            fact("connections", out, |out| grouped(process.connections_total, out));
            fact("requests", out, |out| grouped(process.requests_total, out));
            fact("memory reserved", out, |out| {
                grouped(process.memory_kib, out);
                out.put(" KiB");
            });
            fact("file limit", out, |out| grouped(process.max_files, out));
            fact("logs dropped", out, |out| grouped(process.dropped_logs, out));
            out.put("</dl>");
        }

        fn html_options(&self, view: &View, out: &mut Out) {
            let owner = &view.config.proxies[usize::from(self.owner)];
            let Some(stats) = &owner.stats else { return };
            let scope = &self.scope[..usize::from(self.scope_len)];
            let link = |options: &str, keep_scope: bool, text: &str, out: &mut Out| {
                out.put("<a href='");
                out.html(&stats.uri);
                out.put(options);
                if keep_scope && !scope.is_empty() {
                    out.put(if stats.uri.contains(&b'?') { "&amp;scope=" } else { "?scope=" });
                    out.html(scope);
                }
                out.put("'>");
                out.put(text);
                out.put("</a> ");
            };
            let up = if self.hide_down { ";up" } else { "" };
            let still = if self.no_refresh { ";norefresh" } else { "" };
            let both = if self.hide_down && self.no_refresh {
                ";up;norefresh"
            } else if self.hide_down {
                up
            } else {
                still
            };
            out.put("<nav>");
            link(both, true, "Refresh now", out);
            match self.no_refresh {
                true => link(up, true, "Turn refresh on", out),
                false if stats.refresh > 0 => {
                    link(if self.hide_down { ";up;norefresh" } else { ";norefresh" }, true, "Turn refresh off", out);
                    out.put("<small>every ");
                    out.num(stats.refresh);
                    out.put(" s</small> ");
                }
                false => {}
            }
            match self.hide_down {
                true => link(still, true, "Show down", out),
                false => link(if self.no_refresh { ";up;norefresh" } else { ";up" }, true, "Hide down", out),
            }
            link(";csv;norefresh", true, "CSV", out);
            link(";json;norefresh", true, "JSON", out);
            link(";json-schema", false, "JSON schema", out);
            out.put("<form><label>Scope <input name=scope size=10 maxlength=20 value='");
            out.html(scope);
            out.put("'></label></form><span class=key><i class=open></i>open or up <i class=full></i>at its limit <i class=stop></i>stopping</span></nav>");
        }

        /// Title, column heads and the frontend's line of one proxy.
        fn html_proxy(&self, view: &View, row: &Row, out: &mut Out) {
            let owner = &view.config.proxies[usize::from(self.owner)];
            let proxy = row.proxy;
            out.put("<h2 id='");
            out.html(&proxy.name);
            out.put("'>");
            out.html(&proxy.name);
            out.put(" <small>");
            out.html(&proxy.description);
            if owner.stats.as_ref().is_some_and(|stats| stats.legends) {
                out.put(if proxy.http { " mode http" } else { " mode tcp" });
                out.put(", id ");
                out.num(proxy.id);
                for bind in &proxy.binds {
                    if let crate::config::Bind::Address(_, shown) = bind {
                        out.put(", ");
                        out.html(shown);
                    }
                }
            }
            out.put("</small></h2><div class=wide><table><tr><th rowspan=2>");
            for (title, columns) in GROUPS {
                out.put("<th colspan=");
                out.num(columns.split(' ').count());
                out.put(">");
                out.put(title);
            }
            out.put("<tr>");
            for (_, columns) in GROUPS {
                for (at, name) in columns.split(' ').enumerate() {
                    let (label, _) = name.split_once(':').unwrap_or((name, ""));
                    out.put(if at == 0 { "<th class=g>" } else { "<th>" });
                    out.put(label);
                }
            }
            html_row(row, out);
        }
    }

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
        ("per second", "req_rate"),
        ("at most", "req_rate_max"),
        ("1xx", "hrsp_1xx"),
        ("2xx", "hrsp_2xx"),
        ("3xx", "hrsp_3xx"),
        ("4xx", "hrsp_4xx"),
        ("5xx", "hrsp_5xx"),
        ("other", "hrsp_other"),
        ("intercepted", "intercepted"),
        ("internal errors", "eint"),
        ("connections", "conn_tot"),
        ("per second", "conn_rate"),
        ("at most", "conn_rate_max"),
    ];

    const STYLE: &str = ":root{color-scheme:light dark;--l:#8884;--ok:#2a7;--warn:#e90;--bad:#d33}\
body{font:15px/1.4 system-ui,sans-serif;margin:0 auto;padding:.6em 1em;max-width:120em}\
h1,h2{margin:.4em 0 .2em;font-size:1.4em}h2{font-size:1.15em;margin-top:1.2em}header p{margin:0;opacity:.75}\
small{font-weight:400;opacity:.7;font-size:.85em}\
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(9em,1fr));gap:.4em;margin:.7em 0}\
dl.s{grid-template-columns:repeat(auto-fill,minmax(6.2em,1fr));margin:.4em 0}\
dl div{border:1px solid var(--l);border-radius:.4em;padding:.25em .6em}\
dt{font-size:.8em;opacity:.7}dd{margin:0;font-size:1.1em;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}\
nav{display:flex;flex-wrap:wrap;gap:.4em 1.2em;align-items:center;border:solid var(--l);border-width:1px 0;padding:.5em 0}\
form{margin:0}input{font:inherit}.key i{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin:0 .3em 0 .6em}\
.open{background:var(--ok)}.full{background:var(--warn)}.stop{background:var(--bad)}.bad{color:var(--bad)}\
.banner{border-left:.4em solid var(--warn);padding:.4em .8em;background:var(--l)}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}\
th,td{padding:.25em .5em;text-align:right;white-space:nowrap;border-bottom:1px solid var(--l)}\
th{font-size:.8em;font-weight:600}th[colspan]{text-align:center}th[colspan],.g{border-left:1px solid var(--l)}\
tr>:first-child{text-align:left;position:sticky;left:0;background:Canvas}td b{padding:.1em .5em;border-radius:.6em;color:#fff}";

    fn fact(label: &str, out: &mut Out, write: impl FnOnce(&mut Out)) {
        out.put("<div><dt>");
        out.put(label);
        out.put("<dd>");
        write(out);
        out.put("</div>");
    }

    fn column(name: &str) -> Option<&'static Column> {
        COLUMNS.iter().find(|column| column.0 == name)
    }

    /// One line of a proxy's table.
    fn html_row(row: &Row, out: &mut Out) {
        out.put(if row.backend { "<tr><td>Backend" } else { "<tr><td>Frontend" });
        for (_, columns) in GROUPS {
            for (at, name) in columns.split(' ').enumerate() {
                let (_, name) = name.split_once(':').unwrap_or((name, ""));
                out.put(if at == 0 { "<td class=g>" } else { "<td>" });
                match column(name).and_then(|column| row.value(column)) {
                    Some(Value::Text(status)) => {
                        let full = !row.backend && row.counters.sessions >= u64::from(row.limit());
                        out.put(match status {
                            b"STOP" => "<b class=stop>",
                            _ if full => "<b class=full>",
                            _ => "<b class=open>",
                        });
                        out.put(status);
                        out.put("</b>");
                    }
                    Some(Value::U32(number) | Value::U64(number)) => grouped(number, out),
                    Some(Value::S32(-1)) | None => {}
                    Some(Value::S32(seconds)) => uptime(seconds as u64, out),
                }
            }
        }
    }

    fn html_details(row: &Row, out: &mut Out) {
        out.put("<dl class=s>");
        for (label, name) in DETAILS {
            fact(label, out, |out| {
                if let Some(Value::U32(number) | Value::U64(number)) = column(name).and_then(|column| row.value(column))
                {
                    let failed = number > 0 && *name == "hrsp_5xx";
                    out.put(if failed { "<b class=bad>" } else { "<b>" });
                    grouped(number, out);
                    out.put("</b>");
                }
            });
        }
        out.put("</dl>");
    }

    /// A number with a thin space between its thousands.
    fn grouped(number: u64, out: &mut Out) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(number).as_bytes();
        for (at, digit) in digits.iter().enumerate() {
            out.put(if at > 0 && (digits.len() - at) % 3 == 0 { "&#8239;" } else { "" });
            out.put([*digit]);
        }
    }

    /// `1d 2h03m04s`
    fn uptime(seconds: u64, out: &mut Out) {
        let minutes = seconds / 60;
        if minutes >= 1440 {
            out.num(minutes / 1440);
            out.put("d ");
        }
        if minutes >= 60 {
            out.num(minutes / 60 % 24);
            out.put("h");
        }
        if minutes > 0 {
            out.num(minutes % 60);
            out.put("m");
        }
        out.num(seconds % 60);
        out.put("s");
    }

    // ---- parts of the formats ------------------------------------------------

    /// Number of a column, the `-` among them not counted.
    fn position(column: usize) -> usize {
        let dash = COLUMNS.iter().position(|column| matches!(column.3, Dash)).unwrap_or(COLUMNS.len());
        if column > dash { column - 1 } else { column }
    }

    /// The type of a value, and whether it is text.
    fn kind(value: &Value) -> (&'static str, bool) {
        match value {
            Value::Text(_) => ("str", true),
            Value::U32(_) => ("u32", false),
            Value::U64(_) => ("u64", false),
            Value::S32(_) => ("s32", false),
        }
    }

    fn put_value<'v>(value: &Value<'v>, out: &mut Out, put_text: impl FnOnce(&mut Out, &'v [u8])) {
        match value {
            Value::Text(text) => put_text(out, text),
            Value::U32(number) | Value::U64(number) => out.num(*number),
            Value::S32(number) => out.num(*number),
        }
    }

    /// Words for the letters of the typed format: origin, nature and scope.
    const TAGS: &[(u8, u8, &str)] = &[
        (b'O', b'M', "Metric"),
        (b'O', b'S', "Status"),
        (b'O', b'K', "Key"),
        (b'O', b'C', "Config"),
        (b'N', b'G', "Gauge"),
        (b'N', b'L', "Limit"),
        (b'N', b'M', "Max"),
        (b'N', b'R', "Rate"),
        (b'N', b'C', "Counter"),
        (b'N', b'A', "Age"),
        (b'N', b'N', "Name"),
        (b'N', b'a', "Avg"),
        (b'S', b'P', "Process"),
        (b'S', b'S', "Service"),
    ];

    fn tag(letter: u8, group: u8) -> &'static str {
        TAGS.iter().find(|tag| (tag.0, tag.1) == (group, letter)).map_or("Unknown", |tag| tag.2)
    }

    /// JSON Schema (draft 4) of what `;json` gives.
    fn schema_piece(piece: usize, out: &mut Out) -> bool {
        const HEAD: &str = r##"{"$schema":"http://json-schema.org/draft-04/schema#","title":"Statistics","type":"array","items":{"type":"array","items":{"type":"object","properties":{"objType":{"enum":["Frontend","Backend"]},"proxyId":{"type":"integer","minimum":1},"id":{"type":"integer","minimum":0},"field":{"$ref":"#/definitions/field"},"processNum":{"type":"integer","minimum":1},"tags":{"$ref":"#/definitions/tags"},"value":{"$ref":"#/definitions/value"}},"required":["objType","proxyId","id","field","processNum","tags","value"]}},"definitions":{"field":{"type":"object","properties":{"pos":{"type":"integer","minimum":0},"name":{"type":"string"}},"required":["pos","name"]},"value":{"type":"object","properties":{"type":{"enum":["str","u32","u64","s32"]},"value":{"type":["string","integer"]}},"required":["type","value"]},"tags":{"type":"object","properties":{"##;
        if piece == 0 {
            out.put(HEAD);
            return true;
        }
        for (group, name) in
            [(b'O', "\"origin\":{\"enum\":["), (b'N', "]},\"nature\":{\"enum\":["), (b'S', "]},\"scope\":{\"enum\":[")]
        {
            out.put(name);
            for (at, tag) in TAGS.iter().filter(|tag| tag.0 == group).enumerate() {
                out.put(if at == 0 { "\"" } else { ",\"" });
                out.put(tag.2);
                out.put("\"");
            }
        }
        out.put("]}},\"required\":[\"origin\",\"nature\",\"scope\"]}}}\n");
        false
    }

    /// HELP and TYPE of a metric (Prometheus text format 0.0.4).
    fn put_help(object: &str, name: &str, counter: bool, out: &mut Out) {
        for word in ["# HELP haproxy_", object, "_", name, " Of the ", object, ": "] {
            out.put(word);
        }
        for word in name.split('_') {
            out.put(word);
            out.put(" ");
        }
        for word in ["\n# TYPE haproxy_", object, "_", name, if counter { " counter\n" } else { " gauge\n" }] {
            out.put(word);
        }
    }

    fn put_sample(row: &Row, name: &str, label: &str, value: &str, number: u64, out: &mut Out) {
        out.put("haproxy_frontend_");
        out.put(name);
        out.put("{proxy=\"");
        out.label(&row.proxy.name);
        if !label.is_empty() {
            for word in ["\",", label, "=\"", value] {
                out.put(word);
            }
        }
        out.put("\"} ");
        out.num(number);
        out.put("\n");
    }

    /// Metrics of the process: name, whether it only grows, and its value.
    type ProcessLine = (&'static str, bool, fn(&View) -> u64);

    #[rustfmt::skip]
    const PROCESS: &[ProcessLine] = &[
        ("nbthread", false, |_| 1),
        ("nbproc", false, |_| 1),
        ("relative_process_id", false, |_| 1),
        ("uptime_seconds", false, |view| view.now_ms / 1000),
        ("pool_failures_total", true, |_| 0),
        ("max_fds", false, |view| view.statistics.process.max_files),
        ("max_sockets", false, |view| view.statistics.process.max_files),
        ("max_connections", false, |view| u64::from(view.statistics.process.maxconn)),
        ("hard_max_connections", false, |view| u64::from(view.statistics.process.maxconn)),
        ("current_connections", false, |view| view.statistics.process.connections),
        ("connections_total", true, |view| view.statistics.process.connections_total),
        ("requests_total", true, |view| view.statistics.process.requests_total),
        ("max_ssl_connections", false, |_| 0),
        ("current_ssl_connections", false, |_| 0),
        ("ssl_connections_total", true, |_| 0),
        ("max_pipes", false, |_| 0),
        ("pipes_used_total", true, |_| 0),
        ("pipes_free_total", true, |_| 0),
        ("current_connection_rate", false, |view| view.statistics.process.connection_rate.read(view.now_ms)),
        ("limit_connection_rate", false, |_| 0),
        ("max_connection_rate", false, |view| view.statistics.process.connection_rate.max),
        ("current_session_rate", false, |view| view.statistics.process.connection_rate.read(view.now_ms)),
        ("limit_session_rate", false, |_| 0),
        ("max_session_rate", false, |view| view.statistics.process.connection_rate.max),
        ("current_ssl_rate", false, |_| 0),
        ("limit_ssl_rate", false, |_| 0),
        ("max_ssl_rate", false, |_| 0),
        ("stopping", false, |view| u64::from(view.statistics.process.stopping)),
        ("jobs", false, |view| view.statistics.process.connections + view.statistics.process.listeners),
        ("unstoppable_jobs", false, |_| 0),
        ("listeners", false, |view| view.statistics.process.listeners),
        ("active_peers", false, |_| 0),
        ("connected_peers", false, |_| 0),
        ("dropped_logs_total", true, |view| view.statistics.process.dropped_logs),
        ("busy_polling_enabled", false, |_| 0),
        ("failed_resolutions", true, |_| 0),
        ("bytes_out_total", true, |view| view.statistics.process.bytes_out),
        ("spliced_bytes_out_total", true, |_| 0),
        ("bytes_out_rate", false, |view| view.statistics.process.bytes_rate.read(view.now_ms)),
        ("recv_logs_total", true, |_| 0),
        ("build_info", false, |_| 1),
        ("max_memory_bytes", false, |_| 0),
        ("pool_allocated_bytes", false, |view| view.statistics.process.buffer_bytes),
        ("pool_used_bytes", false, |view| view.statistics.process.buffers_in_use * view.config.bufsize as u64),
        ("start_time_seconds", false, |view| view.statistics.process.started_wall),
    ];
}

/// The configuration language: words, sections, the table of keywords.
/// Owns every setting; calls rules, http and log to compile their parts.
mod config {
    use crate::http;
    use crate::log::{Place, Shape, Target};
    use crate::rules::{self, Acl, Action, Body, Condition, Fetch, Format, Reply, Rule, Text, Userlist};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    /// Largest `maxconn`.
    pub const MAXCONN_MAX: u64 = 1_000_000;
    /// `maxconn` where none is set and the memory allows it.
    pub const MAXCONN_DEFAULT: u32 = 1000;
    const MAX_LINE: usize = 2048;
    const MAX_WORDS: usize = 64;
    const MAX_FILE: usize = 1 << 20;
    const MAX_PROXIES: usize = 128;
    const MAX_BINDS: usize = 256;
    /// Rules and ACLs of one proxy.
    const MAX_RULES: usize = 1024;
    const MAX_NAME: usize = 64;
    /// Description, node, realm and what else a page shows, in bytes.
    const MAX_SHOWN: usize = 200;
    /// Room that an answer's head takes at most beside a configured body.
    const HEAD_ROOM: usize = 1024;
    /// Longest time, in milliseconds: 24.8 days.
    const MAX_TIME: u64 = 0x7fff_ffff;
    /// Errors that are shown before the rest is passed over.
    const MAX_ERRORS: usize = 100;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Kind {
        Defaults,
        Frontend,
        Listen,
    }

    #[derive(Clone, Debug)]
    pub enum Bind {
        Address(SocketAddr, Text),
        /// A listening socket that is inherited.
        Descriptor(i32),
    }

    /// Times in milliseconds; None waits for ever.
    #[derive(Clone, Default, Debug)]
    pub struct Timeouts {
        pub client: Option<u32>,
        pub http_request: Option<u32>,
        pub http_keep_alive: Option<u32>,
        pub tarpit: Option<u32>,
    }

    /// The settings that are on or off.
    #[derive(Clone, Default, Debug)]
    pub struct Flags {
        pub dont_log_null: bool,
        pub dont_log_normal: bool,
        pub ignore_probes: bool,
        pub http_close: bool,
        http_log: bool,
        tcp_log: bool,
        log_global: bool,
    }

    #[derive(Clone, Debug)]
    pub struct Stats {
        pub uri: Text,
        /// Seconds, 0 for none.
        pub refresh: u32,
        realm: Text,
        users: Vec<(Text, Text)>,
        pub hide_version: bool,
        pub node: Option<Text>,
        pub description: Option<Text>,
        pub legends: bool,
        /// Names of the proxies shown, `.` for the own one; empty for all.
        pub scope: Vec<Text>,
        /// Deny and auth are answers, allow is none.
        pub rules: Vec<Rule>,
    }

    /// A frontend, a listen section, or the defaults that one begins with.
    #[derive(Clone, Debug)]
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
        pub timeouts: Timeouts,
        pub flags: Flags,
        pub monitor_uri: Option<Text>,
        pub monitor_fail: Vec<Condition>,
        pub stats: Option<Stats>,
        pub acls: Vec<Acl>,
        pub rules: Vec<Rule>,
        redirects: Vec<Rule>,
        /// Configured answers in place of the built-in ones.
        errors: Vec<Reply>,
        pub targets: Vec<Target>,
        log_format: Option<Text>,
        /// One line for each request; None logs connections instead.
        pub format: Option<Format>,
        pub tag: Text,
    }

    impl Proxy {
        fn new(kind: Kind, name: &[u8], at: Text) -> Self {
            Self {
                name: name.to_vec(),
                kind,
                at,
                id: 0,
                http: false,
                disabled: false,
                description: Vec::new(),
                binds: Vec::new(),
                maxconn: None,
                timeouts: Timeouts::default(),
                flags: Flags::default(),
                monitor_uri: None,
                monitor_fail: Vec::new(),
                stats: None,
                acls: Vec::new(),
                rules: Vec::new(),
                redirects: Vec::new(),
                errors: Vec::new(),
                targets: Vec::new(),
                log_format: None,
                format: None,
                tag: b"haproxy".to_vec(),
            }
        }

        /// The answer for a status, configured or built in; every status that
        /// the program itself gives is there after [`Parser::finish`].
        pub fn reply(&self, status: u16) -> &Reply {
            let found = self.errors.iter().rev().find(|reply| reply.status == status);
            found.unwrap_or(&self.errors[0])
        }
    }

    /// Statuses that the program gives of itself. The first stands in for
    /// any that is missing, which none is.
    const OWN_STATUSES: &[u16] = &[500, 200, 400, 401, 403, 408, 413, 422, 503];

    #[derive(Default)]
    pub struct Config {
        pub maxconn: Option<u32>,
        /// Bytes.
        pub bufsize: usize,
        pub maxrewrite: usize,
        /// Milliseconds that a soft stop may take, None for ever.
        pub hard_stop_after: Option<u32>,
        pub node: Text,
        pub description: Text,
        pub proxies: Vec<Proxy>,
        pub userlists: Vec<Userlist>,
        targets: Vec<Target>,
        tag: Option<Text>,
        error_sections: Vec<(Text, Vec<Reply>)>,
    }

    impl Config {
        /// Bytes that a request's head may have: 400 above.
        pub fn head_limit(&self) -> usize {
            self.bufsize - self.maxrewrite
        }
    }

    /// Messages of one start, shown together.
    #[derive(Default)]
    pub struct Report {
        pub errors: Vec<Text>,
        pub warnings: Vec<Text>,
        pub notices: Vec<Text>,
    }

    impl Report {
        pub fn print(&self, verbose: bool) {
            let notices = if verbose { &self.notices[..] } else { &[] };
            for (level, lines) in [("NOTICE", notices), ("WARNING", &self.warnings), ("ALERT", &self.errors)] {
                lines.iter().for_each(|line| crate::message(level.as_bytes(), &cat!("config : ", line)));
            }
        }
    }

    type Answer = Result<(), Text>;

    /// What becomes of a keyword.
    enum Fate {
        Set(fn(&mut Parser, &[Text]) -> Answer),
        /// Accepted without an effect: what it governs does not exist here.
        Ignored,
        /// The same, but its value is checked.
        Checked(fn(&[Text]) -> Answer),
        Refused(&'static str),
    }
    use Fate::{Checked, Ignored, Refused, Set};

    const GLOBAL: u8 = 1;
    const DEFAULTS: u8 = 2;
    const FRONTEND: u8 = 4;
    const LISTEN: u8 = 8;
    const USERLIST: u8 = 16;
    const ERRORS: u8 = 32;
    const PROXY: u8 = DEFAULTS | FRONTEND | LISTEN;
    const SERVES: u8 = FRONTEND | LISTEN;
    const ANY: u8 = 63;

    const NO_SERVERS: &str = "this program has no servers and forwards nothing";
    const NO_TLS: &str = "this program speaks no TLS";
    const NO_CONTROL: &str = "there is nothing to control at run time";
    const NO_REWRITE: &str = "requests go nowhere, so nothing would see the change";
    const NO_STATE: &str = "this program keeps no tables, caches or captures";
    const NO_TCP: &str = "only HTTP is inspected";

    /// Every word that is known, with the sections it may stand in. The first
    /// two words of a line are looked up together, then the first alone.
    type Keyword = (&'static str, u8, Fate);

    const KEYWORDS: &[Keyword] = &[
        // process
        ("chroot", GLOBAL, Ignored),
        ("daemon", GLOBAL, Ignored),
        ("default-path", GLOBAL, Refused("relative paths begin at the current directory, see -C")),
        ("description", GLOBAL | PROXY, Set(description)),
        ("expose-experimental-directives", GLOBAL, Ignored),
        ("gid", GLOBAL, Ignored),
        ("group", GLOBAL, Ignored),
        ("hard-stop-after", GLOBAL, Set(|p, args| Ok(p.config.hard_stop_after = time(args, "ms")?))),
        ("insecure-fork-wanted", GLOBAL, Ignored),
        ("localpeer", GLOBAL, Ignored),
        ("log-send-hostname", GLOBAL, Ignored),
        ("log-tag", GLOBAL | PROXY, Set(log_tag)),
        ("log", GLOBAL | PROXY, Set(log)),
        ("lua-load", GLOBAL, Refused("there is no Lua")),
        ("master-worker", GLOBAL, Ignored),
        ("maxconn", GLOBAL | PROXY, Set(maxconn)),
        ("maxconnrate", GLOBAL, Refused("rates are counted, not limited")),
        ("maxsessrate", GLOBAL, Refused("rates are counted, not limited")),
        ("nbproc", GLOBAL, Set(only_one)),
        ("nbthread", GLOBAL, Set(only_one)),
        ("cpu-map", GLOBAL, Ignored),
        ("noepoll", GLOBAL, Refused("epoll is all there is")),
        ("nogetaddrinfo", GLOBAL, Ignored),
        ("noreuseport", GLOBAL, Ignored),
        ("nosplice", GLOBAL, Ignored),
        ("node", GLOBAL, Set(|p, args| Ok(p.config.node = shown(one(args)?)?))),
        ("numa-cpu-mapping", GLOBAL, Ignored),
        ("pidfile", GLOBAL, Ignored),
        ("quiet", GLOBAL, Ignored),
        ("set-dumpable", GLOBAL, Ignored),
        ("setenv", GLOBAL, Refused("set the environment before the start")),
        ("presetenv", GLOBAL, Refused("set the environment before the start")),
        ("spread-checks", GLOBAL, Ignored),
        ("ssl-default-bind-ciphers", GLOBAL, Ignored),
        ("ssl-default-bind-ciphersuites", GLOBAL, Ignored),
        ("ssl-default-bind-options", GLOBAL, Ignored),
        ("ssl-default-server-ciphers", GLOBAL, Ignored),
        ("ssl-server-verify", GLOBAL, Ignored),
        ("ca-base", GLOBAL, Ignored),
        ("crt-base", GLOBAL, Ignored),
        ("stats maxconn", GLOBAL, Ignored),
        ("stats socket", GLOBAL, Set(stats_socket)),
        ("stats timeout", GLOBAL, Ignored),
        ("strict-limits", GLOBAL, Ignored),
        ("tune.bufsize", GLOBAL, Set(bufsize)),
        ("tune.http.maxhdr", GLOBAL, Refused("a request has at most 100 header fields")),
        ("tune.idle-pool.shared", GLOBAL, Ignored),
        ("tune.maxaccept", GLOBAL, Ignored),
        ("tune.maxpollevents", GLOBAL, Ignored),
        ("tune.maxrewrite", GLOBAL, Set(maxrewrite)),
        ("tune.rcvbuf.client", GLOBAL, Ignored),
        ("tune.sndbuf.client", GLOBAL, Ignored),
        ("tune.ssl.default-dh-param", GLOBAL, Ignored),
        ("uid", GLOBAL, Ignored),
        ("ulimit-n", GLOBAL, Ignored),
        ("unix-bind", GLOBAL, Ignored),
        ("zero-warning", GLOBAL, Ignored),
        // proxies
        ("acl", SERVES, Set(acl)),
        ("backlog", PROXY, Ignored),
        ("balance", DEFAULTS | LISTEN, Ignored),
        ("bind", SERVES, Set(bind)),
        ("bind-process", PROXY, Ignored),
        ("cache-use", PROXY, Refused(NO_STATE)),
        ("capture", PROXY, Refused(NO_STATE)),
        ("compression", PROXY, Refused("answers are sent as they are")),
        ("cookie", PROXY, Refused(NO_SERVERS)),
        ("declare", PROXY, Refused(NO_STATE)),
        ("default-server", PROXY, Ignored),
        ("default_backend", PROXY, Refused(NO_SERVERS)),
        ("disabled", PROXY, Set(|p, _| Ok(p.proxy().disabled = true))),
        ("dispatch", PROXY, Refused(NO_SERVERS)),
        ("email-alert", PROXY, Refused(NO_SERVERS)),
        ("enabled", PROXY, Set(|p, _| Ok(p.proxy().disabled = false))),
        ("errorfile", PROXY | ERRORS, Set(errorfile)),
        ("errorfiles", PROXY, Set(errorfiles)),
        ("errorloc", PROXY, Refused("use 'http-request redirect', or 'errorfile' with a whole answer")),
        ("errorloc302", PROXY, Refused("use 'http-request redirect', or 'errorfile' with a whole answer")),
        ("errorloc303", PROXY, Refused("use 'http-request redirect', or 'errorfile' with a whole answer")),
        ("filter", PROXY, Refused("there are no filters")),
        ("force-persist", PROXY, Refused(NO_SERVERS)),
        ("fullconn", PROXY, Ignored),
        ("grace", PROXY, Ignored),
        ("hash-type", PROXY, Ignored),
        ("http-after-response", PROXY, Refused("give the field to the answer itself: 'http-request return ... hdr'")),
        ("http-check", PROXY, Refused(NO_SERVERS)),
        ("http-error", PROXY, Set(http_error)),
        ("http-request allow", SERVES, Set(http_request)),
        ("http-request auth", SERVES, Set(http_request)),
        ("http-request deny", SERVES, Set(http_request)),
        ("http-request redirect", SERVES, Set(http_request)),
        ("http-request reject", SERVES, Set(http_request)),
        ("http-request return", SERVES, Set(http_request)),
        ("http-request silent-drop", PROXY, Refused("it needs TCP_REPAIR; use 'reject'")),
        ("http-request tarpit", SERVES, Set(http_request)),
        ("http-request use-service", SERVES, Set(http_request)),
        ("http-request add-header", PROXY, Refused(NO_REWRITE)),
        ("http-request cache-use", PROXY, Refused(NO_STATE)),
        ("http-request capture", PROXY, Refused(NO_STATE)),
        ("http-request del-header", PROXY, Refused(NO_REWRITE)),
        ("http-request lua", PROXY, Refused("there is no Lua")),
        ("http-request replace-header", PROXY, Refused(NO_REWRITE)),
        ("http-request replace-path", PROXY, Refused(NO_REWRITE)),
        ("http-request replace-uri", PROXY, Refused(NO_REWRITE)),
        ("http-request replace-value", PROXY, Refused(NO_REWRITE)),
        ("http-request set-header", PROXY, Refused(NO_REWRITE)),
        ("http-request set-log-level", PROXY, Refused("use 'option dontlog-normal' or 'monitor-uri'")),
        ("http-request set-method", PROXY, Refused(NO_REWRITE)),
        ("http-request set-path", PROXY, Refused(NO_REWRITE)),
        ("http-request set-query", PROXY, Refused(NO_REWRITE)),
        ("http-request set-src", PROXY, Refused(NO_REWRITE)),
        ("http-request set-uri", PROXY, Refused(NO_REWRITE)),
        ("http-request set-var", PROXY, Refused(NO_STATE)),
        ("http-request track-sc0", PROXY, Refused(NO_STATE)),
        ("http-request wait-for-body", PROXY, Refused("bodies are not kept")),
        ("http-response", PROXY, Refused(NO_SERVERS)),
        ("http-reuse", PROXY, Ignored),
        ("http-send-name-header", PROXY, Ignored),
        ("id", SERVES, Refused("proxies are numbered in their order")),
        ("ignore-persist", PROXY, Refused(NO_SERVERS)),
        ("load-server-state-from-file", PROXY, Ignored),
        ("log-format", PROXY, Set(log_format)),
        ("log-format-sd", PROXY, Refused("structured data is not supported")),
        ("max-keep-alive-queue", PROXY, Ignored),
        ("mode", PROXY, Set(mode)),
        ("monitor fail", SERVES, Set(monitor_fail)),
        ("monitor-uri", PROXY, Set(|p, args| Ok(p.proxy().monitor_uri = Some(one(args)?.clone())))),
        ("option abortonclose", PROXY, Ignored),
        ("option accept-invalid-http-request", PROXY, Refused("requests are parsed strictly")),
        ("option accept-invalid-http-response", PROXY, Ignored),
        ("option allbackups", PROXY, Ignored),
        ("option checkcache", PROXY, Ignored),
        ("option clitcpka", PROXY, Ignored),
        ("option contstats", PROXY, Ignored),
        ("option disable-h2-upgrade", PROXY, Ignored),
        ("option dontlog-normal", PROXY, Set(option)),
        ("option dontlognull", PROXY, Set(option)),
        ("option forwardfor", PROXY, Ignored),
        ("option h1-case-adjust-bogus-client", PROXY, Refused("header names are lower-case")),
        ("option http-buffer-request", PROXY, Ignored),
        ("option http-ignore-probes", PROXY, Set(option)),
        ("option http-keep-alive", PROXY, Set(option)),
        ("option http-no-delay", PROXY, Ignored),
        ("option http-pretend-keepalive", PROXY, Ignored),
        ("option http-server-close", PROXY, Ignored),
        ("option http-use-proxy-header", PROXY, Refused("this is no forward proxy")),
        ("option httpchk", PROXY, Ignored),
        ("option httpclose", PROXY, Set(option)),
        ("option httplog", PROXY, Set(option)),
        ("option idle-close-on-response", PROXY, Ignored),
        ("option independent-streams", PROXY, Ignored),
        ("option log-health-checks", PROXY, Ignored),
        ("option log-separate-errors", PROXY, Ignored),
        ("option logasap", PROXY, Ignored),
        ("option nolinger", PROXY, Ignored),
        ("option originalto", PROXY, Ignored),
        ("option persist", PROXY, Ignored),
        ("option prefer-last-server", PROXY, Ignored),
        ("option redispatch", PROXY, Ignored),
        ("option socket-stats", PROXY, Refused("statistics are counted for each proxy")),
        ("option splice-auto", PROXY, Ignored),
        ("option splice-request", PROXY, Ignored),
        ("option splice-response", PROXY, Ignored),
        ("option srvtcpka", PROXY, Ignored),
        ("option tcp-check", PROXY, Ignored),
        ("option tcp-smart-accept", PROXY, Ignored),
        ("option tcp-smart-connect", PROXY, Ignored),
        ("option tcpka", PROXY, Ignored),
        ("option tcplog", PROXY, Set(option)),
        ("option transparent", PROXY, Refused(NO_SERVERS)),
        ("persist", PROXY, Ignored),
        ("rate-limit", PROXY, Refused("rates are counted, not limited")),
        ("redirect", SERVES, Set(redirect)),
        ("retries", PROXY, Ignored),
        ("retry-on", PROXY, Ignored),
        ("server", PROXY, Refused(NO_SERVERS)),
        ("server-template", PROXY, Refused(NO_SERVERS)),
        ("source", PROXY, Ignored),
        ("stats admin", PROXY, Refused("there are no servers to administer")),
        ("stats auth", PROXY, Set(stats)),
        ("stats enable", PROXY, Set(stats)),
        ("stats hide-version", PROXY, Set(stats)),
        ("stats http-request", SERVES, Set(stats)),
        ("stats realm", PROXY, Set(stats)),
        ("stats refresh", PROXY, Set(stats)),
        ("stats scope", PROXY, Set(stats)),
        ("stats show-desc", PROXY, Set(stats)),
        ("stats show-legends", PROXY, Set(stats)),
        ("stats show-modules", PROXY, Ignored),
        ("stats show-node", PROXY, Set(stats)),
        ("stats uri", PROXY, Set(stats)),
        ("stick", PROXY, Refused(NO_STATE)),
        ("stick-table", PROXY, Refused(NO_STATE)),
        ("tcp-check", PROXY, Refused(NO_SERVERS)),
        ("tcp-request", PROXY, Refused(NO_TCP)),
        ("tcp-response", PROXY, Refused(NO_TCP)),
        ("timeout check", PROXY, Ignored),
        ("timeout client", PROXY, Set(|p, args| Ok(p.proxy().timeouts.client = time(args, "ms")?))),
        ("timeout client-fin", PROXY, Ignored),
        ("timeout connect", PROXY, Checked(|args| time(args, "ms").map(drop))),
        ("timeout http-keep-alive", PROXY, Set(|p, args| Ok(p.proxy().timeouts.http_keep_alive = time(args, "ms")?))),
        ("timeout http-request", PROXY, Set(|p, args| Ok(p.proxy().timeouts.http_request = time(args, "ms")?))),
        ("timeout queue", PROXY, Checked(|args| time(args, "ms").map(drop))),
        ("timeout server", PROXY, Checked(|args| time(args, "ms").map(drop))),
        ("timeout server-fin", PROXY, Ignored),
        ("timeout tarpit", PROXY, Set(|p, args| Ok(p.proxy().timeouts.tarpit = time(args, "ms")?))),
        ("timeout tunnel", PROXY, Ignored),
        ("unique-id-format", PROXY, Refused("requests carry no unique id")),
        ("unique-id-header", PROXY, Refused("requests carry no unique id")),
        ("use_backend", PROXY, Refused(NO_SERVERS)),
        ("use-fcgi-app", PROXY, Refused(NO_SERVERS)),
        ("use-server", PROXY, Refused(NO_SERVERS)),
        // other sections
        ("group", USERLIST, Ignored),
        ("user", GLOBAL | USERLIST, Set(user)),
        // section names and what stands in no section of its own
        ("backend", ANY, Refused(NO_SERVERS)),
        ("cache", ANY, Refused(NO_STATE)),
        ("crt-list", ANY, Refused(NO_TLS)),
        ("fcgi-app", ANY, Refused(NO_SERVERS)),
        ("log-forward", ANY, Refused("logs are written, not forwarded")),
        ("mailers", ANY, Refused(NO_SERVERS)),
        ("peers", ANY, Refused(NO_STATE)),
        ("program", ANY, Refused("this program starts no other")),
        ("resolvers", ANY, Refused(NO_SERVERS)),
        ("ring", ANY, Refused("use 'log stdout' or 'log IP:PORT'")),
        (".if", ANY, Refused("conditional blocks are not supported")),
    ];

    /// Words that, refused, stand for a whole section whose lines are passed over.
    const REFUSED_SECTIONS: &[&str] =
        &["backend", "cache", "fcgi-app", "log-forward", "mailers", "peers", "program", "resolvers", "ring"];
    const SECTIONS: &[&str] = &["global", "defaults", "frontend", "listen", "userlist", "http-errors"];

    /// The table as text, for `-vv` and for the README.
    pub fn support() -> Text {
        let mut text = Vec::new();
        let fates: [(&str, fn(&Fate) -> bool); 3] = [
            ("Supported", |fate| matches!(fate, Set(_))),
            ("Accepted without an effect", |fate| matches!(fate, Ignored | Checked(_))),
            ("Refused", |fate| matches!(fate, Refused(_))),
        ];
        for (title, belongs) in fates {
            text = cat!(text, title, ":");
            let mut names: Vec<&str> = KEYWORDS.iter().filter(|word| belongs(&word.2)).map(|word| word.0).collect();
            names.sort_unstable();
            names.dedup();
            for (at, name) in names.into_iter().enumerate() {
                text = cat!(text, if at == 0 { " " } else { ", " }, name);
            }
            text.push(b'\n');
        }
        let fetches: Vec<&str> = rules::FETCHES.iter().map(|fetch| fetch.0).collect();
        let acls: Vec<&str> = rules::PREDEFINED.iter().map(|acl| acl.0).collect();
        cat!(text, "Fetches: ", fetches.join(", "), "\nPredefined ACLs: ", acls.join(", "), "\n")
    }

    enum Section {
        None,
        Global,
        /// Lines of a section that could not be opened.
        Skipped,
        Proxy,
        Userlist,
        Errors,
    }

    /// Reads files one after the other into one [`Config`].
    pub struct Parser<'r> {
        report: &'r mut Report,
        config: Config,
        section: Section,
        /// The proxy being read, put away at the next section.
        current: Option<Proxy>,
        defaults: Vec<Proxy>,
        file: Text,
        line: usize,
    }

    impl<'r> Parser<'r> {
        pub fn new(report: &'r mut Report) -> Self {
            let config = Config { bufsize: 16_384, maxrewrite: 1024, ..Config::default() };
            let (file, line) = (Vec::new(), 0);
            Self { report, config, section: Section::None, current: None, defaults: Vec::new(), file, line }
        }

        /// An error that belongs to no line.
        pub fn fatal(&mut self, text: Text) {
            self.report.errors.push(text);
        }

        fn at(&self) -> Text {
            cat!(self.file, ":", itoa::Buffer::new().format(self.line))
        }

        fn error(&mut self, text: &[u8]) {
            if self.report.errors.len() < MAX_ERRORS {
                self.report.errors.push(cat!("parsing [", self.at(), "] : ", text));
            }
        }

        fn warn(&mut self, text: &[u8]) {
            let line = cat!("parsing [", self.at(), "] : ", text);
            self.report.warnings.push(line);
        }

        /// Reads one file. Errors go to the report, reading goes on.
        pub fn parse(&mut self, file: &str, text: &[u8]) {
            self.file = file.as_bytes().to_vec();
            self.line = 0;
            if text.len() > MAX_FILE {
                return self.fatal(cat!("'", file, "' is larger than 1 MiB"));
            }
            for line in text.split_inclusive(|&byte| byte == b'\n') {
                self.line += 1;
                let Some(line) = line.strip_suffix(b"\n") else {
                    self.error(b"the last line has no line feed at its end, the file may be cut off");
                    continue;
                };
                let words = match words(line.strip_suffix(b"\r").unwrap_or(line)) {
                    Ok(words) => words,
                    Err(why) => {
                        self.error(&why);
                        continue;
                    }
                };
                if let Some((first, _)) = words.split_first()
                    && let Err(why) = self.statement(first, &words)
                {
                    self.error(&why);
                }
            }
            self.put_away();
        }

        /// Applies one line.
        fn statement(&mut self, first: &[u8], words: &[Text]) -> Answer {
            if SECTIONS.iter().any(|name| name.as_bytes() == first) {
                self.put_away();
                self.section = Section::Skipped;
                return self.open(words);
            }
            let section = match &self.section {
                Section::Skipped if !REFUSED_SECTIONS.iter().any(|name| name.as_bytes() == first) => return Ok(()),
                Section::Skipped | Section::None => 0,
                Section::Global => GLOBAL,
                Section::Userlist => USERLIST,
                Section::Errors => ERRORS,
                Section::Proxy => match self.proxy().kind {
                    Kind::Defaults => DEFAULTS,
                    Kind::Frontend => FRONTEND,
                    Kind::Listen => LISTEN,
                },
            };
            if first == b"no" && words.len() > 2 && words[1] == b"option" {
                return set_option(self, &words[1..], false);
            }
            if first == b"no" && words.get(1).is_some_and(|word| word == b"log") && section & (PROXY | GLOBAL) != 0 {
                return log(self, words);
            }
            let second = words.get(1).map_or(&b""[..], |word| word.as_slice());
            let both = cat!(first, " ", second);
            let is = |word: &Keyword, name: &[u8]| word.0.as_bytes() == name;
            let mut found: Vec<_> = KEYWORDS.iter().filter(|word| is(word, &both) || is(word, first)).collect();
            found.sort_by_key(|word| word.1 & section == 0);
            let Some((name, sections, fate)) = found.first() else {
                return Err(self.unknown(first, second, section));
            };
            if sections & section == 0 && *sections != ANY {
                return Err(cat!("'", name, "' does not stand in this section"));
            }
            match fate {
                Set(apply) => apply(self, words),
                Ignored | Checked(_) => {
                    if let Checked(check) = fate {
                        check(words)?;
                    }
                    let line = cat!("parsing [", self.at(), "] : '", name, "' is accepted and has no effect here");
                    self.report.notices.push(line);
                    Ok(())
                }
                Refused(why) => {
                    if REFUSED_SECTIONS.contains(name) {
                        self.put_away();
                        self.section = Section::Skipped;
                    }
                    Err(cat!("'", name, "' is not supported : ", why))
                }
            }
        }

        /// What to say of an unknown word: with the nearest known one.
        fn unknown(&self, first: &[u8], second: &[u8], section: u8) -> Text {
            let group = cat!(first, " ");
            let grouped = KEYWORDS.iter().any(|word| word.0.as_bytes().starts_with(&group));
            let word = if grouped { cat!(first, " ", second) } else { first.to_vec() };
            let here = KEYWORDS.iter().filter(|word| word.1 & section != 0).map(|word| word.0);
            let near = here.chain(SECTIONS.iter().copied()).map(|name| {
                // against an ungrouped word, only the first word of a name counts
                let part = if grouped { name } else { name.split(' ').next().unwrap_or(name) };
                (distance(&word, part.as_bytes()), part)
            });
            let text = cat!("unknown keyword '", word, "'");
            match near.min() {
                Some((far, name)) if far <= 1 + word.len() / 4 => cat!(text, "; did you mean '", name, "' ?"),
                _ => text,
            }
        }

        /// Opens a section.
        fn open(&mut self, words: &[Text]) -> Answer {
            let name = words.get(1).cloned().unwrap_or_default();
            let kind = match words[0].as_slice() {
                b"global" => {
                    self.section = Section::Global;
                    return Ok(());
                }
                b"defaults" => Kind::Defaults,
                b"listen" => Kind::Listen,
                _ => Kind::Frontend,
            };
            let fine = |&byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
            if kind != Kind::Defaults && name.is_empty() {
                return Err(cat!("'", words[0], "' needs a name"));
            }
            if name.len() > MAX_NAME || !name.iter().all(fine) {
                return Err(cat!("'", name, "' is no name : letters, digits, '-', '_', '.' and ':', at most 64"));
            }
            if words[0] == b"userlist" {
                self.config.userlists.push(Userlist { name, users: Vec::new() });
                self.section = Section::Userlist;
                return Ok(());
            }
            if words[0] == b"http-errors" {
                self.config.error_sections.push((name, Vec::new()));
                self.section = Section::Errors;
                return Ok(());
            }
            let base = match words.get(2).map(Vec::as_slice) {
                None if kind == Kind::Defaults => None,
                None => self.defaults.last(),
                Some(b"from") => {
                    let wanted = words.get(3).cloned().unwrap_or_default();
                    let found = self.defaults.iter().find(|defaults| !wanted.is_empty() && defaults.name == wanted);
                    Some(found.ok_or_else(|| cat!("no defaults section is named '", wanted, "'"))?)
                }
                Some(word) => {
                    return Err(cat!(
                        "unexpected '",
                        word,
                        "' : only 'from <defaults>' may stand here; use 'bind' for addresses"
                    ));
                }
            };
            let mut proxy = Proxy::new(kind, &name, self.at());
            if let Some(base) = base {
                proxy = Proxy { name: proxy.name, kind, at: proxy.at, ..base.clone() };
            }
            let same = self.config.proxies.iter().find(|other| kind != Kind::Defaults && other.name == name);
            let clash =
                same.map(|other| cat!("the name '", name, "' is taken by the proxy declared at [", other.at, "]"));
            if kind != Kind::Defaults && self.config.proxies.len() == MAX_PROXIES {
                return Err(cat!("there are more than 128 proxies"));
            }
            self.current = Some(proxy);
            self.section = Section::Proxy;
            clash.map_or(Ok(()), Err)
        }

        fn put_away(&mut self) {
            match self.current.take() {
                Some(proxy) if proxy.kind == Kind::Defaults => self.defaults.push(proxy),
                Some(proxy) => self.config.proxies.push(proxy),
                None => {}
            }
            self.section = Section::None;
        }

        /// The proxy being read. Only called where the section is one.
        fn proxy(&mut self) -> &mut Proxy {
            self.current.get_or_insert_with(|| Proxy::new(Kind::Defaults, b"", Vec::new()))
        }

        /// Checks what can only be known at the end, and completes the proxies.
        pub fn finish(mut self) -> Config {
            self.put_away();
            let mut config = self.config;
            if config.bufsize < config.maxrewrite + 2048 {
                self.report
                    .errors
                    .push(cat!("'tune.maxrewrite' leaves less than 2048 bytes of 'tune.bufsize' for a request"));
            }
            if config.node.is_empty() {
                let name = std::fs::read("/proc/sys/kernel/hostname").unwrap_or(b"localhost".to_vec());
                config.node = name.trim_ascii().iter().copied().take(MAX_NAME).collect();
            }
            for (at, proxy) in config.proxies.iter_mut().enumerate() {
                proxy.id = at as u32 + 1;
                let name = cat!("proxy '", proxy.name, "' at [", proxy.at, "]");
                if proxy.binds.is_empty() && !proxy.disabled {
                    self.report.warnings.push(cat!(name, " has no 'bind' and will never serve"));
                }
                if proxy.timeouts.client.is_none() {
                    self.report
                        .warnings
                        .push(cat!(name, " has no 'timeout client' : a dead client keeps its place for ever"));
                }
                if !proxy.http && (proxy.stats.is_some() || !proxy.rules.is_empty() || proxy.monitor_uri.is_some()) {
                    self.report
                        .warnings
                        .push(cat!(name, " is not in 'mode http' : stats, monitor and http-request lines are ignored"));
                }
                if proxy.flags.log_global {
                    proxy.targets.extend(config.targets.iter().cloned());
                }
                if let Some(tag) = &config.tag
                    && proxy.tag == b"haproxy"
                {
                    proxy.tag.clone_from(tag);
                }
                let format = match &proxy.log_format {
                    Some(format) => Some(format.as_slice()),
                    None if proxy.flags.http_log && proxy.http => Some(rules::HTTPLOG.as_bytes()),
                    None if proxy.flags.tcp_log || proxy.flags.http_log => Some(rules::TCPLOG.as_bytes()),
                    None => None,
                };
                proxy.format = format.and_then(|format| match Format::compile(format, true, &config.userlists) {
                    Ok(format) => Some(format),
                    Err(why) => {
                        self.report.errors.push(cat!(name, " : log-format : ", why));
                        None
                    }
                });
                let redirects = std::mem::take(&mut proxy.redirects);
                proxy.rules.extend(redirects);
                if let Some(stats) = &mut proxy.stats {
                    stats.finish();
                }
                let own = OWN_STATUSES.iter().map(|&status| Reply::standard(status));
                proxy.errors.splice(0..0, own);
            }
            config
        }

        /// Compiles the condition that ends a rule; the words before it are done.
        fn condition(&mut self, words: &[Text]) -> Result<Option<Condition>, Text> {
            match words.first() {
                None => Ok(None),
                Some(word) if word == b"if" || word == b"unless" => {
                    let lists = std::mem::take(&mut self.config.userlists);
                    let condition = Condition::compile(words, &mut self.proxy().acls, &lists);
                    self.config.userlists = lists;
                    if self.proxy().acls.len() > MAX_RULES {
                        return Err(cat!("there are more than 1024 ACLs"));
                    }
                    condition.map(Some)
                }
                Some(word) => Err(cat!("unexpected '", word, "' : 'if' or 'unless' may stand here")),
            }
        }

        fn format(&self, text: &[u8]) -> Result<Format, Text> {
            Format::compile(text, false, &self.config.userlists)
        }

        /// A format for a header field, which is one line.
        fn field(&self, text: &[u8]) -> Result<Format, Text> {
            if text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                return Err(cat!("a header field cannot hold a line end"));
            }
            self.format(text)
        }
    }

    impl Stats {
        fn new() -> Self {
            Self {
                uri: b"/haproxy?stats".to_vec(),
                refresh: 0,
                realm: b"HAProxy Statistics".to_vec(),
                users: Vec::new(),
                hide_version: false,
                node: None,
                description: None,
                legends: false,
                scope: Vec::new(),
                rules: Vec::new(),
            }
        }

        /// Who is let in by `stats auth`.
        pub fn users(&self) -> &[(Text, Text)] {
            &self.users
        }

        /// The challenge of `stats auth` and of `stats http-request auth`.
        fn challenge(&self) -> Reply {
            challenge(&self.realm)
        }

        /// `stats auth` lines without rules of their own mean a challenge.
        fn finish(&mut self) {
            if !self.users.is_empty() {
                self.rules.push(Rule { action: Action::Return(self.challenge()), condition: None });
            }
        }
    }

    /// 401 with its challenge (RFC 7617 §2).
    fn challenge(realm: &[u8]) -> Reply {
        let mut reply = Reply::standard(401);
        reply.fixed_field("www-authenticate", &cat!("Basic realm=\"", realm, "\""));
        reply.prepare()
    }

    // ---- words and values --------------------------------------------------

    /// Splits one line into words: quotes, escapes, variables, comments.
    fn words(line: &[u8]) -> Result<Vec<Text>, Text> {
        if line.len() > MAX_LINE {
            return Err(cat!("the line is longer than 2048 bytes"));
        }
        let mut words: Vec<Text> = Vec::new();
        let mut word: Option<Text> = None;
        let mut quote = 0;
        let mut rest = line;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'"' | b'\'' if quote == 0 => {
                    quote = byte;
                    word.get_or_insert_default();
                }
                _ if byte == quote && quote != 0 => quote = 0,
                b' ' | b'\t' if quote == 0 => words.extend(word.take()),
                b'#' if quote == 0 => break,
                b'\\' if quote != b'\'' => {
                    let (bytes, used) = escape(rest)?;
                    word.get_or_insert_default().extend_from_slice(&bytes);
                    rest = &rest[used..];
                }
                b'$' if quote == b'"' => {
                    let (value, used) = variable(rest)?;
                    word.get_or_insert_default().extend_from_slice(&value);
                    rest = &rest[used..];
                }
                0 => return Err(cat!("the line holds a NUL")),
                _ => word.get_or_insert_default().push(byte),
            }
        }
        if quote != 0 {
            return Err(cat!("unmatched quote ", [quote]));
        }
        words.extend(word);
        if words.len() > MAX_WORDS { Err(cat!("the line has more than 64 words")) } else { Ok(words) }
    }

    /// What follows a backslash: its bytes and how many were read.
    fn escape(rest: &[u8]) -> Result<(Text, usize), Text> {
        Ok(match rest {
            [byte @ (b' ' | b'#' | b'\\' | b'\'' | b'"' | b'$'), ..] => (vec![*byte], 1),
            [b'n', ..] => (vec![b'\n'], 1),
            [b'r', ..] => (vec![b'\r'], 1),
            [b't', ..] => (vec![b'\t'], 1),
            [b'x', rest @ ..] => {
                let digits = rest.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
                let byte = digits.and_then(|hex| u8::from_str_radix(hex, 16).ok());
                (vec![byte.ok_or_else(|| cat!("'\\x' needs two hexadecimal digits"))?], 3)
            }
            _ => (vec![b'\\'], 0),
        })
    }

    /// `${NAME}`, `${NAME-default}` or `$NAME`, behind its `$`.
    fn variable(rest: &[u8]) -> Result<(Text, usize), Text> {
        let braced = rest.first() == Some(&b'{');
        let (inside, used) = if braced {
            let end = rest.iter().position(|&byte| byte == b'}').ok_or_else(|| cat!("'${' without its '}'"))?;
            (&rest[1..end], end + 1)
        } else {
            let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
            (&rest[..length], length)
        };
        let (name, default) = if braced { http::split_at_byte(inside, b'-') } else { (inside, &b""[..]) };
        if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return Err(cat!("'$' is followed by no name of a variable"));
        }
        let value = std::env::var_os(String::from_utf8_lossy(name).as_ref());
        Ok((value.map_or(default.to_vec(), std::ffi::OsString::into_encoded_bytes), used))
    }

    /// A decimal number within bounds.
    pub fn number(text: &[u8], least: u64, most: u64) -> Option<u64> {
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(text).ok()?.parse().ok().filter(|number| (least..=most).contains(number))
    }

    /// A number with a unit, times `scale` of the unit it has.
    fn with_unit(text: &[u8], units: &[(&str, u64)], plain: u64) -> Option<u64> {
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let unit = units.iter().find(|unit| unit.0.as_bytes() == &text[digits..]).map(|unit| unit.1);
        let scale = if digits == text.len() { plain } else { unit? };
        number(&text[..digits], 0, u64::MAX / 1000)?.checked_mul(scale)
    }

    /// The time that ends a line, in milliseconds; None for 0, which is no limit.
    fn time(words: &[Text], plain: &str) -> Result<Option<u32>, Text> {
        const UNITS: &[(&str, u64)] = &[
            ("us", 1),
            ("ms", 1000),
            ("s", 1_000_000),
            ("m", 60_000_000),
            ("h", 3_600_000_000),
            ("d", 86_400_000_000),
        ];
        let word = words.last().filter(|_| words.len() > 2 || words[0] == b"hard-stop-after" && words.len() > 1);
        let word = word.ok_or_else(|| cat!("'", words.join(&b' '), "' needs a time"))?;
        let scale = if plain == "s" { 1_000_000 } else { 1000 };
        let micros = with_unit(word, UNITS, scale)
            .ok_or_else(|| cat!("'", word, "' is no time : a number and us, ms, s, m, h or d"))?;
        let millis = micros.div_ceil(1000);
        if millis > MAX_TIME {
            return Err(cat!("'", word, "' is longer than 24.8 days"));
        }
        Ok((millis > 0).then_some(millis as u32))
    }

    /// The one argument of a line.
    fn one(words: &[Text]) -> Result<&Text, Text> {
        match words {
            [_, value] => Ok(value),
            [name] => Err(cat!("'", name, "' needs an argument")),
            [_, _, extra, ..] => Err(cat!("unexpected '", extra, "'")),
            [] => Err(cat!("an argument is missing")),
        }
    }

    /// Text that a page shows, within its bound.
    fn shown(text: &[u8]) -> Result<Text, Text> {
        match text.len() <= MAX_SHOWN {
            true => Ok(text.to_vec()),
            false => Err(cat!("the text is longer than 200 bytes")),
        }
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

    fn read_file(name: &[u8]) -> Result<Text, Text> {
        let path = String::from_utf8_lossy(name).into_owned();
        std::fs::read(path).map_err(|why| cat!("cannot read '", name, "' : ", why.to_string()))
    }

    // ---- keywords of global ------------------------------------------------

    fn maxconn(parser: &mut Parser, words: &[Text]) -> Answer {
        let word = one(words)?;
        let value =
            number(word, 0, MAXCONN_MAX).ok_or_else(|| cat!("maxconn '", word, "' is no number from 0 to 1000000"))?;
        let value = (value > 0).then_some(value as u32);
        match parser.section {
            Section::Global => parser.config.maxconn = value,
            _ => parser.proxy().maxconn = value,
        }
        Ok(())
    }

    fn only_one(_: &mut Parser, words: &[Text]) -> Answer {
        match one(words)?.as_slice() {
            b"1" => Ok(()),
            _ => Err(cat!("'", words[0], "' can only be 1 : there is one process with one thread")),
        }
    }

    fn bufsize(parser: &mut Parser, words: &[Text]) -> Answer {
        let word = one(words)?;
        let size = with_unit(word, &[("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30)], 1);
        let size = size.filter(|size| (4096..=1 << 20).contains(size));
        parser.config.bufsize = size.ok_or_else(|| cat!("'", word, "' is no size from 4096 to 1m"))? as usize;
        Ok(())
    }

    fn maxrewrite(parser: &mut Parser, words: &[Text]) -> Answer {
        let word = one(words)?;
        let size = number(word, 0, 1 << 20).ok_or_else(|| cat!("'", word, "' is no number of bytes"))?;
        parser.config.maxrewrite = size as usize;
        Ok(())
    }

    fn stats_socket(parser: &mut Parser, _: &[Text]) -> Answer {
        parser.warn(cat!("'stats socket' is not served : ", NO_CONTROL).as_slice());
        Ok(())
    }

    fn description(parser: &mut Parser, words: &[Text]) -> Answer {
        let text = shown(&words[1..].join(&b' '))?;
        match parser.section {
            Section::Global => parser.config.description = text,
            _ => parser.proxy().description = text,
        }
        Ok(())
    }

    /// `user` of `global` names an account, that of a `userlist` a person.
    fn user(parser: &mut Parser, words: &[Text]) -> Answer {
        if let Section::Global = parser.section {
            return Ok(());
        }
        match words {
            [_, name, kind, password, ..] if kind == b"insecure-password" => {
                let list = parser.config.userlists.last_mut();
                list.into_iter().for_each(|list| list.users.push((name.clone(), password.clone())));
                Ok(())
            }
            [_, _, kind, _, ..] if kind == b"password" => {
                Err(cat!("'password' is not supported : hashed passwords need crypt(3); use 'insecure-password'"))
            }
            _ => Err(cat!("'user' needs a name, 'insecure-password' and a password")),
        }
    }

    // ---- keywords of logs --------------------------------------------------

    const FACILITIES: &[&str] = &[
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "auth2", "ftp", "ntp",
        "audit", "alert", "cron2", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
    ];
    const LEVELS: &[&str] = &["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

    fn log(parser: &mut Parser, words: &[Text]) -> Answer {
        let is_global = matches!(parser.section, Section::Global);
        if words[0] == b"no" {
            parser.proxy().targets.clear();
            parser.proxy().flags.log_global = false;
            return Ok(());
        }
        let Some((to, mut rest)) = words[1..].split_first() else {
            return Err(cat!("'log' needs a target"));
        };
        if to == b"global" && !is_global {
            parser.proxy().flags.log_global = true;
            return Ok(());
        }
        let place = match to.as_slice() {
            b"stdout" => Place::Descriptor(1),
            b"stderr" => Place::Descriptor(2),
            _ => match to.strip_prefix(b"fd@") {
                Some(digits) => {
                    Place::Descriptor(number(digits, 0, 1023).ok_or_else(|| cat!("'", to, "' is no descriptor"))? as i32)
                }
                None => {
                    let address = to.strip_prefix(b"udp@").unwrap_or(to);
                    let with_port = std::str::from_utf8(address).ok().and_then(|text| text.parse().ok());
                    let address = with_port.or_else(|| rules::parse_ip(address).map(|ip| SocketAddr::new(ip, 514)));
                    Place::Udp(
                        address.ok_or_else(|| cat!("'", to, "' is no log target : stdout, stderr, fd@N or IP:PORT"))?,
                    )
                }
            },
        };
        let mut target = Target { place, shape: Shape::Rfc3164, facility: 0, level: 7 };
        while let [name, value, after @ ..] = rest {
            match (name.as_slice(), value.as_slice()) {
                (b"format", b"raw") => target.shape = Shape::Raw,
                (b"format", b"short") => target.shape = Shape::Short,
                (b"format", b"rfc3164" | b"local") => target.shape = Shape::Rfc3164,
                (b"format", b"rfc5424") => target.shape = Shape::Rfc5424,
                (b"format", _) => {
                    return Err(cat!("log format '", value, "' is not supported : raw, short, rfc3164 or rfc5424"));
                }
                (b"len" | b"sample" | b"profile", _) => {
                    return Err(cat!("'", name, "' of a log line is not supported"));
                }
                _ => break,
            }
            rest = after;
        }
        let place_of = |names: &[&str], word: &Text| names.iter().position(|name| name.as_bytes() == word);
        match rest {
            [facility, levels @ ..] if levels.len() <= 2 => {
                let found =
                    place_of(FACILITIES, facility).ok_or_else(|| cat!("unknown log facility '", facility, "'"))?;
                target.facility = found as u8;
                for (at, level) in levels.iter().enumerate() {
                    let found = place_of(LEVELS, level).ok_or_else(|| cat!("unknown log level '", level, "'"))?;
                    target.level = if at == 0 { found as u8 } else { target.level };
                }
            }
            _ => return Err(cat!("'log' needs a facility, such as local0, and at most two levels")),
        }
        match is_global {
            true => parser.config.targets.push(target),
            false => parser.proxy().targets.push(target),
        }
        Ok(())
    }

    fn log_tag(parser: &mut Parser, words: &[Text]) -> Answer {
        let tag = shown(one(words)?)?;
        match parser.section {
            Section::Global => parser.config.tag = Some(tag),
            _ => parser.proxy().tag = tag,
        }
        Ok(())
    }

    fn log_format(parser: &mut Parser, words: &[Text]) -> Answer {
        let text = one(words)?;
        // compiled at the end, checked here for the sake of the line's number
        Format::compile(text, true, &parser.config.userlists)?;
        parser.proxy().log_format = Some(text.clone());
        Ok(())
    }

    // ---- keywords of proxies -----------------------------------------------

    fn mode(parser: &mut Parser, words: &[Text]) -> Answer {
        parser.proxy().http = match one(words)?.as_slice() {
            b"http" => true,
            b"tcp" => false,
            other => return Err(cat!("mode '", other, "' is not supported : http or tcp")),
        };
        Ok(())
    }

    fn option(parser: &mut Parser, words: &[Text]) -> Answer {
        set_option(parser, words, true)
    }

    /// `option X`, or `no option X` without its `no` and without the table
    /// having been asked.
    fn set_option(parser: &mut Parser, words: &[Text], on: bool) -> Answer {
        let name = words.get(1).cloned().unwrap_or_default();
        let known = cat!("option ", name);
        let Some(keyword) = KEYWORDS.iter().find(|keyword| keyword.0.as_bytes() == known) else {
            return Err(cat!("unknown option '", name, "'"));
        };
        if !matches!(keyword.2, Set(_)) || parser.current.is_none() {
            return Ok(());
        }
        if let Some(extra) = words.get(2) {
            return Err(cat!("'", known, "' : '", extra, "' is not supported"));
        }
        let flags = &mut parser.proxy().flags;
        match name.as_slice() {
            b"dontlog-normal" => flags.dont_log_normal = on,
            b"dontlognull" => flags.dont_log_null = on,
            b"http-ignore-probes" => flags.ignore_probes = on,
            b"http-keep-alive" => flags.http_close = !on,
            b"httpclose" => flags.http_close = on,
            b"httplog" => (flags.http_log, flags.tcp_log) = (on, false),
            _ => (flags.tcp_log, flags.http_log) = (on, false),
        }
        Ok(())
    }

    fn bind(parser: &mut Parser, words: &[Text]) -> Answer {
        let addresses = words.get(1).ok_or_else(|| cat!("'bind' needs an address and a port"))?;
        let mut binds = Vec::new();
        for address in addresses.split(|&byte| byte == b',') {
            bind_address(address, &mut binds)?;
        }
        let mut rest = &words[2..];
        while let Some((option, after)) = rest.split_first() {
            let values = match option.as_slice() {
                b"tfo" | b"defer-accept" | b"v4v6" => 0,
                b"name" | b"id" | b"backlog" | b"nice" | b"process" | b"thread" | b"shards" | b"tcp-ut" | b"mss" => 1,
                b"proto" if after.first().is_some_and(|proto| proto == b"h1") => 1,
                b"ssl" | b"crt" | b"crt-list" | b"ca-file" | b"alpn" | b"npn" | b"verify" => {
                    return Err(cat!("'bind ... ", option, "' is not supported : ", NO_TLS));
                }
                b"accept-proxy" | b"interface" | b"maxconn" | b"namespace" | b"proto" | b"transparent" | b"v6only" => {
                    return Err(cat!("'bind ... ", option, "' is not supported"));
                }
                _ => return Err(cat!("unknown keyword '", option, "' of 'bind'")),
            };
            if after.len() < values {
                return Err(cat!("'", option, "' of 'bind' needs a value"));
            }
            rest = &after[values..];
        }
        let proxy = parser.proxy();
        proxy.binds.append(&mut binds);
        if proxy.binds.len() > MAX_BINDS { Err(cat!("there are more than 256 addresses")) } else { Ok(()) }
    }

    /// One address: `*:80`, `:80`, `1.2.3.4:80-82`, `[::1]:80`, `:::80`,
    /// `ipv4@`, `ipv6@`, `fd@3`.
    fn bind_address(text: &[u8], binds: &mut Vec<Bind>) -> Answer {
        if let Some(digits) = text.strip_prefix(b"fd@") {
            let descriptor = number(digits, 3, 1 << 20).ok_or_else(|| cat!("'", text, "' is no descriptor"))?;
            binds.push(Bind::Descriptor(descriptor as i32));
            return Ok(());
        }
        let v6 = text.starts_with(b"ipv6@");
        let rest = text.strip_prefix(b"ipv6@").or(text.strip_prefix(b"ipv4@")).unwrap_or(text);
        let colon = rest.iter().rposition(|&byte| byte == b':');
        let Some(colon) = colon.filter(|&colon| !rest.ends_with(b"]") && colon + 1 < rest.len()) else {
            return Err(cat!("'bind' : '", text, "' has no port"));
        };
        let (host, ports) = (&rest[..colon], &rest[colon + 1..]);
        let bare = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
        let ip = match bare {
            b"" | b"*" if v6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            b"" | b"*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            b"localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => rules::parse_ip(bare).ok_or_else(|| cat!("'bind' : '", host, "' is no address"))?,
        };
        let (low, high) = http::split_at_byte(ports, b'-');
        let port = |text: &[u8]| {
            number(text, 1, 65_535).ok_or_else(|| cat!("'bind' : port '", text, "' is not from 1 to 65535"))
        };
        let low = port(low)?;
        let high = if ports.contains(&b'-') { port(high)? } else { low };
        if high < low || high - low >= MAX_BINDS as u64 {
            return Err(cat!("'bind' : '", ports, "' is no range of at most 256 ports"));
        }
        for port in low..=high {
            let shown = cat!(host, ":", itoa::Buffer::new().format(port));
            binds.push(Bind::Address(SocketAddr::new(ip, port as u16), shown));
        }
        Ok(())
    }

    fn acl(parser: &mut Parser, words: &[Text]) -> Answer {
        let [_, name, test @ ..] = words else {
            return Err(cat!("'acl' needs a name and a fetch"));
        };
        let test = rules::Test::compile(test, &parser.config.userlists)?;
        let acls = &mut parser.proxy().acls;
        match acls.iter_mut().find(|acl| acl.name == *name) {
            Some(acl) => acl.tests.push(test),
            None => acls.push(Acl { name: name.clone(), tests: vec![test] }),
        }
        if acls.len() > MAX_RULES { Err(cat!("there are more than 1024 ACLs")) } else { Ok(()) }
    }

    fn monitor_fail(parser: &mut Parser, words: &[Text]) -> Answer {
        let condition = parser.condition(&words[2..])?;
        let condition = condition.ok_or_else(|| cat!("'monitor fail' needs 'if' or 'unless'"))?;
        parser.proxy().monitor_fail.push(condition);
        Ok(())
    }

    fn errorfile(parser: &mut Parser, words: &[Text]) -> Answer {
        let [_, status, file] = words else {
            return Err(cat!("'errorfile' needs a status and a file"));
        };
        let mut reply = Reply::from_file(&read_file(file)?).map_err(|why| cat!("'", file, "' : ", why))?;
        reply.status = number(status, 200, 599).ok_or_else(|| cat!("'", status, "' is no status"))? as u16;
        add_error(parser, reply)
    }

    /// Keeps an answer for a status, of the section that is being read.
    fn add_error(parser: &mut Parser, reply: Reply) -> Answer {
        if reply.size() + HEAD_ROOM > parser.config.bufsize {
            return Err(cat!("the answer is too large for 'tune.bufsize'"));
        }
        match (&parser.section, parser.config.error_sections.last_mut()) {
            (Section::Errors, Some((_, replies))) => replies.push(reply),
            _ => parser.proxy().errors.push(reply),
        }
        Ok(())
    }

    fn errorfiles(parser: &mut Parser, words: &[Text]) -> Answer {
        let name = words.get(1).ok_or_else(|| cat!("'errorfiles' needs the name of an http-errors section"))?;
        let section = parser.config.error_sections.iter().find(|section| section.0 == *name);
        let replies = section.ok_or_else(|| cat!("no http-errors section is named '", name, "'"))?.1.clone();
        let mut wanted = Vec::new();
        for word in &words[2..] {
            wanted.push(number(word, 200, 599).ok_or_else(|| cat!("'", word, "' is no status"))? as u16);
        }
        let chosen = replies.into_iter().filter(|reply| wanted.is_empty() || wanted.contains(&reply.status));
        parser.proxy().errors.extend(chosen);
        Ok(())
    }

    fn http_error(parser: &mut Parser, words: &[Text]) -> Answer {
        let (reply, rest) = reply(parser, &words[1..], 0)?;
        if reply.status == 0 || !rest.is_empty() {
            return Err(cat!("'http-error' needs 'status' and takes no condition"));
        }
        add_error(parser, reply)
    }

    // ---- rules -------------------------------------------------------------

    /// Reads `[status N] [content-type T] [string S | ...] [hdr N F]*`; what
    /// follows is given back. Without a payload an error's own text is taken.
    fn reply<'w>(parser: &Parser, words: &'w [Text], status: u16) -> Result<(Reply, &'w [Text]), Text> {
        let mut status = status;
        let mut body = None;
        let mut content_type: Option<Text> = None;
        let mut fields = Vec::new();
        let mut whole: Option<Reply> = None;
        let mut rest = words;
        while let Some((word, after)) = rest.split_first() {
            if word == b"if" || word == b"unless" {
                break;
            }
            let value = after.first().ok_or_else(|| cat!("'", word, "' needs a value"))?;
            let mut used = 1;
            match word.as_slice() {
                b"status" | b"deny_status" => {
                    status = number(value, 200, 599)
                        .ok_or_else(|| cat!("status '", value, "' is not from 200 to 599"))?
                        as u16;
                }
                b"content-type" => content_type = Some(value.clone()),
                b"string" => body = Some(Body::Bytes(value.clone())),
                b"file" => body = Some(Body::Bytes(read_file(value)?)),
                b"lf-string" => body = Some(Body::Format(parser.format(value)?)),
                b"lf-file" => body = Some(Body::Format(parser.format(&read_file(value)?)?)),
                b"errorfile" => {
                    whole = Some(Reply::from_file(&read_file(value)?).map_err(|why| cat!("'", value, "' : ", why))?);
                }
                b"hdr" => {
                    let format = after.get(1).ok_or_else(|| cat!("'hdr' needs a name and a value"))?;
                    if value.is_empty() || !value.iter().all(|&byte| http::is_token(byte)) {
                        return Err(cat!("'", value, "' is no header name"));
                    }
                    fields.push((value.to_ascii_lowercase(), parser.field(format)?));
                    used = 2;
                }
                _ => return Err(cat!("unexpected '", word, "'")),
            }
            rest = &after[used..];
        }
        if content_type.is_some() && body.is_none() {
            return Err(cat!("'content-type' needs a payload"));
        }
        let mut reply = match (whole, body) {
            (Some(whole), _) => whole,
            (None, Some(body)) => Reply::new(status, body),
            // a return without payload is empty, an error has its own text
            (None, None) if matches!(status, 0 | 200 | 204) => Reply::new(status, Body::Bytes(Vec::new())),
            (None, None) => {
                match parser.current.iter().flat_map(|proxy| &proxy.errors).rfind(|reply| reply.status == status) {
                    Some(own) => own.clone(),
                    None => Reply::standard(status),
                }
            }
        };
        if let Some(content_type) = content_type {
            reply.after.push((b"content-type".to_vec(), parser.field(&content_type)?));
        }
        reply.before.append(&mut fields);
        let reply = reply.prepare();
        if reply.size() + HEAD_ROOM > parser.config.bufsize {
            return Err(cat!("the answer is too large for 'tune.bufsize'"));
        }
        Ok((reply, rest))
    }

    /// `http-request ACTION ... [if|unless ...]`
    fn http_request(parser: &mut Parser, words: &[Text]) -> Answer {
        let args = &words[2..];
        let (action, rest) = match words[1].as_slice() {
            b"allow" => (Action::Allow, args),
            b"reject" => (Action::Reject, args),
            b"deny" => reply(parser, args, 403).map(|(reply, rest)| (Action::Deny(reply), rest))?,
            b"tarpit" => reply(parser, args, 500).map(|(reply, rest)| (Action::Tarpit(reply), rest))?,
            b"return" => reply(parser, args, 200).map(|(reply, rest)| (Action::Return(reply), rest))?,
            b"redirect" => redirection(parser, args).map(|(reply, rest)| (Action::Return(reply), rest))?,
            b"auth" => match args {
                [word, realm, rest @ ..] if word == b"realm" => (Action::Return(challenge(&shown(realm)?)), rest),
                _ => (Action::Return(challenge(&parser.proxy().name.clone())), args),
            },
            _ => match args {
                [service, rest @ ..] if service == b"prometheus-exporter" => (Action::Metrics, rest),
                _ => return Err(cat!("'use-service' knows 'prometheus-exporter' only")),
            },
        };
        let condition = parser.condition(rest)?;
        let rules = &mut parser.proxy().rules;
        rules.push(Rule { action, condition });
        if rules.len() > MAX_RULES { Err(cat!("there are more than 1024 rules")) } else { Ok(()) }
    }

    /// The old `redirect ...` line: behind all http-request rules.
    fn redirect(parser: &mut Parser, words: &[Text]) -> Answer {
        let (reply, rest) = redirection(parser, &words[1..])?;
        let condition = parser.condition(rest)?;
        parser.proxy().redirects.push(Rule { action: Action::Return(reply), condition });
        Ok(())
    }

    /// `location|prefix|scheme U [code N] [set-cookie C] [clear-cookie C] [drop-query]`
    fn redirection<'w>(parser: &Parser, words: &'w [Text]) -> Result<(Reply, &'w [Text]), Text> {
        let (mut status, mut cookie, mut drop_query) = (302, None, false);
        let mut target: Option<(&Text, &Text)> = None;
        let mut rest = words;
        while let Some((word, after)) = rest.split_first() {
            if word == b"if" || word == b"unless" {
                break;
            }
            rest = after;
            if word == b"drop-query" {
                drop_query = true;
                continue;
            }
            let (value, after) = after.split_first().ok_or_else(|| cat!("'", word, "' needs a value"))?;
            match word.as_slice() {
                b"location" | b"prefix" | b"scheme" => target = Some((word, value)),
                b"code" => {
                    status = number(value, 301, 308)
                        .filter(|code| [301, 302, 303, 307, 308].contains(code))
                        .unwrap_or(0) as u16;
                }
                b"set-cookie" => cookie = Some(cat!(value, "; path=/;")),
                b"clear-cookie" => cookie = Some(cat!(value, "; path=/; Max-Age=0;")),
                _ => return Err(cat!("unexpected '", word, "' of a redirect")),
            }
            rest = after;
        }
        let (kind, value) = target.ok_or_else(|| cat!("a redirect needs 'location', 'prefix' or 'scheme'"))?;
        if status == 0 {
            return Err(cat!("the code of a redirect is 301, 302, 303, 307 or 308"));
        }
        let path = if drop_query { Fetch::Path } else { Fetch::PathQuery };
        let location = match kind.as_slice() {
            b"location" => parser.field(value)?,
            b"prefix" if value == b"/" => Format::default().then(path),
            b"prefix" => parser.field(value)?.then(path),
            _ => parser.field(&cat!(value, "://"))?.then(Fetch::Lines(b"host".to_vec())).then(path),
        };
        Ok((Reply::redirect(status, location, cookie.as_deref()), rest))
    }

    // ---- stats -------------------------------------------------------------

    fn stats(parser: &mut Parser, words: &[Text]) -> Answer {
        let args = &words[2..];
        let value = || args.first().ok_or_else(|| cat!("'stats ", words[1], "' needs an argument"));
        // anything of stats implies 'enable'
        let mut stats = parser.proxy().stats.take().unwrap_or_else(Stats::new);
        let node = parser.config.node.clone();
        let answer = match words[1].as_slice() {
            b"enable" => Ok(()),
            b"uri" => value().map(|uri| stats.uri.clone_from(uri)),
            b"refresh" => time(words, "s").map(|time| stats.refresh = time.map_or(0, |ms| ms.div_ceil(1000))),
            b"auth" => value().and_then(|word| {
                let (user, password) = http::split_at_byte(word, b':');
                stats.users.push((user.to_vec(), password.to_vec()));
                if user.is_empty() { Err(cat!("'stats auth' needs 'user:password'")) } else { Ok(()) }
            }),
            b"realm" => value().and_then(|realm| shown(realm).map(|realm| stats.realm = realm)),
            b"hide-version" => Ok(stats.hide_version = true),
            b"show-legends" => Ok(stats.legends = true),
            b"show-node" => shown(args.first().unwrap_or(&node)).map(|node| stats.node = Some(node)),
            b"show-desc" => {
                let own = parser.config.description.clone();
                let text = if args.is_empty() { own } else { args.join(&b' ') };
                shown(&text).map(|text| stats.description = Some(text))
            }
            b"scope" => value().map(|name| stats.scope.push(name.clone())),
            _ => stats_rule(parser, args, &stats.realm).map(|rule| stats.rules.push(rule)),
        };
        parser.proxy().stats = Some(stats);
        answer
    }

    /// `stats http-request allow|deny|auth [realm R] [if|unless ...]`
    fn stats_rule(parser: &mut Parser, args: &[Text], realm: &[u8]) -> Result<Rule, Text> {
        let (action, rest) = match args {
            [word, rest @ ..] if word == b"allow" => (Action::Allow, rest),
            [word, rest @ ..] if word == b"deny" => (Action::Deny(Reply::standard(403)), rest),
            [word, name, realm, rest @ ..] if word == b"auth" && name == b"realm" => {
                (Action::Return(challenge(realm)), rest)
            }
            [word, rest @ ..] if word == b"auth" => (Action::Return(challenge(realm)), rest),
            _ => return Err(cat!("'stats http-request' needs allow, deny or auth")),
        };
        Ok(Rule { action, condition: parser.condition(rest)? })
    }
}

/// Conditions, fetches, format strings and replies: compiled once at start,
/// evaluated on every request without allocating. Calls http and out only.
mod rules {
    use crate::http::{self, Request};
    use crate::out::Out;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    pub type Text = Vec<u8>;

    /// Longest `user:password` of a request, decoded, in bytes.
    const MAX_CREDENTIALS: usize = 192;

    /// Wall-clock time, read once per turn of the loop.
    #[derive(Clone, Copy, Default)]
    pub struct Wall {
        pub seconds: u64,
        pub millis: u32,
    }

    /// What became of a request: for logs and for format strings.
    #[derive(Clone, Copy)]
    pub struct Outcome {
        /// -1 where nothing was answered.
        pub status: i32,
        pub bytes_in: u64,
        pub bytes_out: u64,
        /// Termination state, such as `LR--`.
        pub flags: &'static str,
        /// What stands for the server: `<NOSRV>`, `<STATS>`, `<PROMEX>`.
        pub server: &'static str,
        /// Milliseconds to get the request, -1 where there was none, and in all.
        pub request_ms: i64,
        pub waited_ms: i64,
        pub total_ms: i64,
    }

    impl Outcome {
        /// Of a request that is being answered, as far as it is known.
        pub const PENDING: Self = Self {
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            flags: "LR--",
            server: "<NOSRV>",
            request_ms: 0,
            waited_ms: -1,
            total_ms: 0,
        };
    }

    /// All that a fetch or a format string may look at.
    pub struct Scene<'a> {
        /// None for what could not be parsed.
        pub request: Option<&'a Request<'a, 'a>>,
        pub frontend: &'a [u8],
        pub peer: SocketAddr,
        pub local: SocketAddr,
        pub started: Wall,
        pub outcome: Outcome,
        /// Connections of the process and of this frontend.
        pub connections: (u64, u64),
        /// Requests that this process has seen.
        pub requests: u64,
        pub userlists: &'a [Userlist],
        pub node: &'a [u8],
    }

    /// A `userlist` section with its clear-text passwords.
    #[derive(Clone, Default)]
    pub struct Userlist {
        pub name: Text,
        pub users: Vec<(Text, Text)>,
    }

    // ---- fetches -----------------------------------------------------------

    #[derive(Clone, Debug)]
    pub enum Fetch {
        Bool(bool),
        Base,
        Destination,
        DestinationPort,
        Frontend,
        /// Comma-separated values of a field.
        Values(Text),
        /// Whole lines of a field.
        Lines(Text),
        Count(Text),
        Authenticated(usize),
        Method,
        Path,
        PathQuery,
        Query,
        Version,
        Source,
        SourcePort,
        Url,
        Param(Text),
    }

    /// What a fetch yields, which decides how it is matched by default.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub enum Kind {
        Bool,
        Int,
        Ip,
        Text,
    }

    /// Name, kind, whether an argument is needed, whether the ACL suffixes
    /// (`_beg` and its like) exist for it in HAProxy, and the fetch itself.
    pub type FetchLine = (&'static str, Kind, bool, bool, fn(Text) -> Fetch);

    pub const FETCHES: &[FetchLine] = &[
        ("always_false", Kind::Bool, false, false, |_| Fetch::Bool(false)),
        ("always_true", Kind::Bool, false, false, |_| Fetch::Bool(true)),
        ("base", Kind::Text, false, true, |_| Fetch::Base),
        ("dst", Kind::Ip, false, false, |_| Fetch::Destination),
        ("dst_port", Kind::Int, false, false, |_| Fetch::DestinationPort),
        ("fe_name", Kind::Text, false, false, |_| Fetch::Frontend),
        ("hdr", Kind::Text, true, true, Fetch::Values),
        ("hdr_cnt", Kind::Int, true, false, Fetch::Count),
        ("hdr_val", Kind::Int, true, false, Fetch::Values),
        ("http_auth", Kind::Bool, true, false, |_| Fetch::Authenticated(0)),
        ("method", Kind::Text, false, false, |_| Fetch::Method),
        ("path", Kind::Text, false, true, |_| Fetch::Path),
        ("pathq", Kind::Text, false, false, |_| Fetch::PathQuery),
        ("query", Kind::Text, false, false, |_| Fetch::Query),
        ("req.fhdr", Kind::Text, true, false, Fetch::Lines),
        ("req.hdr", Kind::Text, true, false, Fetch::Values),
        ("req.hdr_cnt", Kind::Int, true, false, Fetch::Count),
        ("req.ver", Kind::Text, false, false, |_| Fetch::Version),
        ("req_ver", Kind::Text, false, false, |_| Fetch::Version),
        ("src", Kind::Ip, false, false, |_| Fetch::Source),
        ("src_port", Kind::Int, false, false, |_| Fetch::SourcePort),
        ("ssl_fc", Kind::Bool, false, false, |_| Fetch::Bool(false)),
        ("url", Kind::Text, false, true, |_| Fetch::Url),
        ("url_param", Kind::Text, true, false, Fetch::Param),
        ("urlp", Kind::Text, true, true, Fetch::Param),
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

    enum Sample<'a> {
        Bool(bool),
        Int(i64),
        Ip(IpAddr),
        Text(&'a [u8]),
    }

    impl Fetch {
        /// Compiles `name` or `name(argument)`; the name of the fetch's line
        /// comes first, a suffix such as `beg` last.
        fn compile(word: &[u8], lists: &[Userlist]) -> Result<(Fetch, Kind, Text), Text> {
            let (name, rest) = http::split_at_byte(word, b'(');
            let argument = rest.strip_suffix(b")");
            if name.len() < word.len() && argument.is_none() {
                return Err(cat!("converters and what follows the ')' in '", word, "' are not supported"));
            }
            let argument = argument.unwrap_or(b"");
            let exact = FETCHES.iter().find(|line| line.0.as_bytes() == name);
            let (line, suffix) = match exact {
                Some(line) => (line, &b""[..]),
                None => {
                    let cut = name.iter().rposition(|&byte| byte == b'_').unwrap_or(name.len());
                    let derived = FETCHES.iter().find(|line| line.3 && line.0.as_bytes() == &name[..cut]);
                    match derived {
                        Some(line) => (line, &name[cut + 1..]),
                        None => return Err(cat!("unknown fetch '", name, "'")),
                    }
                }
            };
            if line.2 == argument.is_empty() {
                let what = if line.2 { "needs an argument in '()'" } else { "takes no argument" };
                return Err(cat!("fetch '", line.0, "' ", what));
            }
            if argument.contains(&b',') {
                return Err(cat!("fetch '", line.0, "' takes one argument here"));
            }
            let fetch = match (line.4)(argument.to_vec()) {
                Fetch::Authenticated(_) => match lists.iter().position(|list| list.name == argument) {
                    Some(list) => Fetch::Authenticated(list),
                    None => return Err(cat!("no userlist '", argument, "' stands before this line")),
                },
                fetch => fetch,
            };
            Ok((fetch, line.1, suffix.to_vec()))
        }

        /// Calls `see` with each sample until it says true; tells whether it did.
        fn samples<'a>(&'a self, scene: &Scene<'a>, see: &mut dyn FnMut(Sample<'a>) -> bool) -> bool {
            let text = |bytes: &'a [u8]| Sample::Text(bytes);
            match self {
                Fetch::Bool(value) => return see(Sample::Bool(*value)),
                Fetch::Frontend => return see(text(scene.frontend)),
                Fetch::Source => return see(Sample::Ip(scene.peer.ip().to_canonical())),
                Fetch::SourcePort => return see(Sample::Int(scene.peer.port().into())),
                Fetch::Destination => return see(Sample::Ip(scene.local.ip().to_canonical())),
                Fetch::DestinationPort => return see(Sample::Int(scene.local.port().into())),
                _ => {}
            }
            let Some(request) = scene.request else { return false };
            match self {
                Fetch::Method => see(text(request.method)),
                Fetch::Path => see(text(request.path())),
                Fetch::PathQuery => see(text(request.local())),
                Fetch::Query => see(text(request.query())),
                Fetch::Url => see(text(request.target)),
                Fetch::Version => see(text(&request.version[5..])),
                Fetch::Values(name) => request.fields(name).any(|value| http::list(value).any(|v| see(text(v)))),
                Fetch::Lines(name) => request.fields(name).any(|value| see(text(value))),
                Fetch::Count(name) => {
                    let count = request.fields(name).flat_map(http::list).count();
                    see(Sample::Int(count as i64))
                }
                Fetch::Param(name) => {
                    let mut pairs = request.query().split(|&byte| byte == b'&');
                    pairs.any(|pair| {
                        let (key, value) = http::split_at_byte(pair, b'=');
                        key == name && see(text(value))
                    })
                }
                Fetch::Authenticated(list) => see(Sample::Bool(authenticated(request, &scene.userlists[*list].users))),
                // a copy of host and path would be needed: matched in two parts
                Fetch::Base => see(text(request.path())),
                _ => false,
            }
        }

        /// Writes the sample; of several, the last, as HAProxy does.
        fn write(&self, scene: &Scene, out: &mut Out) {
            if let Fetch::Base = self
                && let Some(request) = scene.request
            {
                out.put(request.fields(b"host").last().unwrap_or(b""));
            }
            let mark = out.len();
            self.samples(scene, &mut |sample| {
                out.truncate(mark);
                match sample {
                    Sample::Bool(value) => out.num(u8::from(value)),
                    Sample::Int(value) => out.num(value),
                    Sample::Ip(ip) => address(ip, out),
                    Sample::Text(text) => out.put(text),
                }
                false
            });
        }
    }

    /// Whether the request carries the name and password of one of `users`
    /// (RFC 7617). Every password is compared in full: time tells nothing.
    pub fn authenticated(request: &Request, users: &[(Text, Text)]) -> bool {
        let mut buffer = [0; MAX_CREDENTIALS];
        let Some(value) = request.fields(b"authorization").next() else { return false };
        let (scheme, code) = http::split_at_byte(value, b' ');
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return false;
        }
        let Some(credentials) = base64(code.trim_ascii(), &mut buffer) else { return false };
        let (user, password) = http::split_at_byte(credentials, b':');
        users
            .iter()
            .fold(false, |found, (name, wanted)| found | (same_secret(name, user) & same_secret(wanted, password)))
    }

    /// Compares in a time that depends on the length of `given` alone.
    fn same_secret(wanted: &[u8], given: &[u8]) -> bool {
        let mut differ = wanted.len() ^ given.len();
        for (at, &byte) in given.iter().enumerate() {
            differ |= usize::from(byte ^ wanted.get(at).copied().unwrap_or(0));
        }
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

    /// An IP address as text, without the formatting machinery of std.
    pub fn address(ip: IpAddr, out: &mut Out) {
        match ip.to_canonical() {
            IpAddr::V4(v4) => {
                for (at, octet) in v4.octets().into_iter().enumerate() {
                    out.put(if at == 0 { "" } else { "." });
                    out.num(octet);
                }
            }
            IpAddr::V6(v6) => {
                let words = v6.segments();
                // the longest run of zeros becomes "::" (RFC 5952 §4.2)
                let runs = (0..8).map(|at| (words[at..].iter().take_while(|&&word| word == 0).count(), 8 - at));
                let (length, from_end) = runs.max().unwrap_or((0, 8));
                let run = if length > 1 { 8 - from_end..8 - from_end + length } else { 8..8 };
                for (at, word) in words.into_iter().enumerate() {
                    if run.contains(&at) {
                        out.put(if at == run.start { "::" } else { "" });
                        continue;
                    }
                    out.put(if at == 0 || at == run.end && at != 8 { "" } else { ":" });
                    let digits = (16 - word.leading_zeros() as usize).div_ceil(4).max(1);
                    for shift in (0..digits).rev() {
                        out.put([b"0123456789abcdef"[usize::from(word >> (4 * shift) & 15)]]);
                    }
                }
            }
        }
    }

    // ---- matches and conditions --------------------------------------------

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum How {
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

    const HOWS: &[(&str, How)] = &[
        ("str", How::Exact),
        ("beg", How::Begins),
        ("end", How::Ends),
        ("sub", How::Contains),
        ("dir", How::Directory),
        ("dom", How::Domain),
        ("len", How::Length),
        ("int", How::Int),
        ("ip", How::Ip),
        ("found", How::Found),
        ("bool", How::Bool),
    ];

    #[derive(Clone, Debug)]
    enum Pattern {
        Text(Text),
        Range(i64, i64),
        Net(IpAddr, u8),
    }

    /// One line of an ACL: a fetch and what to compare it with.
    #[derive(Clone, Debug)]
    pub struct Test {
        fetch: Fetch,
        how: How,
        fold_case: bool,
        patterns: Vec<Pattern>,
    }

    /// A named ACL, or an anonymous one between braces, whose name is empty.
    #[derive(Clone, Debug)]
    pub struct Acl {
        pub name: Text,
        pub tests: Vec<Test>,
    }

    /// `if` or `unless`, alternatives of terms that hold together.
    #[derive(Clone, Debug)]
    pub struct Condition {
        unless: bool,
        /// Each term: negated, and which ACL.
        any: Vec<Vec<(bool, usize)>>,
    }

    impl Test {
        /// Compiles `fetch [-i] [-m how] [-f file] [--] pattern...`.
        pub fn compile(words: &[Text], lists: &[Userlist]) -> Result<Test, Text> {
            let Some((first, mut rest)) = words.split_first() else {
                return Err(cat!("a fetch is missing"));
            };
            let (fetch, kind, suffix) = Fetch::compile(first, lists)?;
            let by_name = |name: &[u8]| HOWS.iter().find(|how| how.0.as_bytes() == name).map(|how| how.1);
            let mut how = match kind {
                Kind::Bool => How::Bool,
                Kind::Int => How::Int,
                Kind::Ip => How::Ip,
                Kind::Text => How::Exact,
            };
            if !suffix.is_empty() {
                how = by_name(&suffix)
                    .ok_or_else(|| cat!("unknown fetch '", first, "': no match '_", suffix, "' is supported"))?;
            }
            let mut test = Test { fetch, how, fold_case: false, patterns: Vec::new() };
            let mut texts: Vec<Text> = Vec::new();
            while let Some((flag, after)) = rest.split_first()
                && flag.starts_with(b"-")
            {
                rest = after;
                let value = after.first().cloned().unwrap_or_default();
                match flag.as_slice() {
                    b"-i" => test.fold_case = true,
                    b"--" => break,
                    b"-n" => {}
                    b"-m" => {
                        test.how =
                            by_name(&value).ok_or_else(|| cat!("match method '", value, "' is not supported"))?;
                        rest = &after[1..];
                    }
                    b"-f" => {
                        let name = String::from_utf8_lossy(&value).into_owned();
                        let file = std::fs::read(name)
                            .map_err(|why| cat!("cannot read patterns from '", value, "' : ", why.to_string()))?;
                        let lines = file.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
                        texts.extend(lines.filter(|line| !line.is_empty() && line[0] != b'#').map(<[u8]>::to_vec));
                        rest = &after[1..];
                    }
                    _ => return Err(cat!("flag '", flag, "' of an ACL is not supported")),
                }
            }
            texts.extend_from_slice(rest);
            test.take_patterns(&texts)?;
            let none_needed = matches!(test.how, How::Found | How::Bool);
            if test.patterns.is_empty() && !none_needed {
                return Err(cat!("'", first, "' has no pattern to match"));
            }
            Ok(test)
        }

        fn take_patterns(&mut self, texts: &[Text]) -> Result<(), Text> {
            let mut operator: &[u8] = b"eq";
            for text in texts {
                let bad = || cat!("'", text, "' is no pattern for this match");
                self.patterns.push(match self.how {
                    How::Int | How::Length => {
                        if matches!(text.as_slice(), b"eq" | b"ge" | b"gt" | b"le" | b"lt") {
                            operator = text;
                            continue;
                        }
                        let (low, high) = http::split_at_byte(text, b':');
                        let low = integer(low).ok_or_else(bad)?;
                        let high = if text.contains(&b':') { integer(high).ok_or_else(bad)? } else { low };
                        match operator {
                            b"ge" => Pattern::Range(low, i64::MAX),
                            b"gt" => Pattern::Range(low + 1, i64::MAX),
                            b"le" => Pattern::Range(i64::MIN, high),
                            b"lt" => Pattern::Range(i64::MIN, high - 1),
                            _ => Pattern::Range(low, high),
                        }
                    }
                    How::Ip => network(text).ok_or_else(bad)?,
                    How::Bool | How::Found => return Err(cat!("'", text, "' : this match takes no pattern")),
                    How::Directory | How::Domain => {
                        let trim = text.iter().skip_while(|&&b| self.delimits(b)).copied().collect::<Text>();
                        let keep = trim.iter().rposition(|&b| !self.delimits(b)).map_or(0, |at| at + 1);
                        Pattern::Text(trim[..keep].to_vec())
                    }
                    _ => Pattern::Text(text.clone()),
                });
            }
            Ok(())
        }

        fn delimits(&self, byte: u8) -> bool {
            match self.how {
                How::Directory => matches!(byte, b'/' | b'?'),
                _ => matches!(byte, b'/' | b'?' | b'.' | b':'),
            }
        }

        fn holds(&self, scene: &Scene) -> bool {
            if let (Fetch::Base, Some(request)) = (&self.fetch, scene.request) {
                return self.base_holds(request);
            }
            self.fetch.samples(scene, &mut |sample| self.matches(&sample))
        }

        /// `base` is host and path in a row, which stand nowhere in one piece.
        fn base_holds(&self, request: &Request) -> bool {
            let mut joined = [0; 1024];
            let mut out = Out::new(&mut joined, 0);
            out.put(request.fields(b"host").last().unwrap_or(b""));
            out.put(request.path());
            !out.full && self.matches(&Sample::Text(out.written()))
        }

        fn matches(&self, sample: &Sample) -> bool {
            match (self.how, sample) {
                (How::Found, _) => true,
                (How::Bool, Sample::Bool(value)) => *value,
                (How::Bool, Sample::Int(value)) => *value != 0,
                (How::Bool, Sample::Text(text)) => integer(text).is_some_and(|value| value != 0),
                (How::Int, Sample::Int(value)) => self.in_range(*value),
                (How::Int, Sample::Text(text)) => integer(text).is_some_and(|value| self.in_range(value)),
                (How::Length, Sample::Text(text)) => self.in_range(text.len() as i64),
                (How::Ip, Sample::Ip(ip)) => self.in_network(*ip),
                (How::Ip, Sample::Text(text)) => parse_ip(text).is_some_and(|ip| self.in_network(ip)),
                (_, Sample::Text(text)) => self.patterns.iter().any(|pattern| match pattern {
                    Pattern::Text(pattern) => self.text_matches(text, pattern),
                    _ => false,
                }),
                _ => false,
            }
        }

        fn text_matches(&self, text: &[u8], pattern: &[u8]) -> bool {
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
                        && (at == 0 || self.delimits(text[at - 1]))
                        && text.get(at + length).is_none_or(|&byte| self.delimits(byte))
                }),
            }
        }

        fn in_range(&self, value: i64) -> bool {
            self.patterns
                .iter()
                .any(|pattern| matches!(pattern, Pattern::Range(low, high) if (*low..=*high).contains(&value)))
        }

        fn in_network(&self, ip: IpAddr) -> bool {
            self.patterns.iter().any(|pattern| match (pattern, ip) {
                (Pattern::Net(IpAddr::V4(net), bits), IpAddr::V4(ip)) => {
                    let shift = 32 - u32::from(*bits);
                    u64::from(u32::from(*net)) >> shift == u64::from(u32::from(ip)) >> shift
                }
                (Pattern::Net(IpAddr::V6(net), bits), IpAddr::V6(ip)) => {
                    let shift = 128 - u32::from(*bits);
                    u128::from(*net).checked_shr(shift) == u128::from(ip).checked_shr(shift)
                }
                _ => false,
            })
        }
    }

    fn integer(text: &[u8]) -> Option<i64> {
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    pub fn parse_ip(text: &[u8]) -> Option<IpAddr> {
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    /// `address` or `address/bits`, or `address/mask` for IPv4.
    fn network(text: &[u8]) -> Option<Pattern> {
        let (address, bits) = http::split_at_byte(text, b'/');
        let ip = parse_ip(address).or_else(|| (address == b"localhost").then_some(Ipv4Addr::LOCALHOST.into()))?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match (bits, parse_ip(bits)) {
            (b"", _) => most,
            (_, Some(IpAddr::V4(mask))) => u32::from(mask).leading_ones().into(),
            (digits, _) => integer(digits)?,
        };
        (0..=most).contains(&bits).then_some(Pattern::Net(ip, bits as u8))
    }

    impl Condition {
        /// Compiles `if|unless term...`; anonymous ACLs are added to `acls`.
        pub fn compile(words: &[Text], acls: &mut Vec<Acl>, lists: &[Userlist]) -> Result<Self, Text> {
            let unless = words[0] == b"unless";
            let mut any = vec![Vec::new()];
            let mut negate = false;
            let mut rest = &words[1..];
            while let Some((word, after)) = rest.split_first() {
                rest = after;
                let name = word.trim_ascii_start();
                let bangs = name.iter().take_while(|&&byte| byte == b'!').count();
                negate ^= bangs % 2 == 1;
                let name = &name[bangs..];
                match name {
                    b"" => continue,
                    b"or" | b"||" => {
                        any.push(Vec::new());
                        continue;
                    }
                    b"{" => {
                        let end =
                            rest.iter().position(|word| word == b"}").ok_or_else(|| cat!("'{' without its '}'"))?;
                        let test = Test::compile(&rest[..end], lists)?;
                        rest = &rest[end + 1..];
                        acls.push(Acl { name: Vec::new(), tests: vec![test] });
                        any.last_mut().into_iter().for_each(|all| all.push((negate, acls.len() - 1)));
                    }
                    _ => {
                        let at = find_acl(name, acls, lists)?;
                        any.last_mut().into_iter().for_each(|all| all.push((negate, at)));
                    }
                }
                negate = false;
            }
            if negate || any.iter().any(Vec::is_empty) {
                return Err(cat!("the condition after '", words[0], "' is not complete"));
            }
            Ok(Self { unless, any })
        }

        pub fn holds(&self, acls: &[Acl], scene: &Scene) -> bool {
            let term = |(negate, acl): &(bool, usize)| acls[*acl].tests.iter().any(|test| test.holds(scene)) != *negate;
            self.any.iter().any(|all| all.iter().all(term)) != self.unless
        }
    }

    fn find_acl(name: &[u8], acls: &mut Vec<Acl>, lists: &[Userlist]) -> Result<usize, Text> {
        if let Some(at) = acls.iter().position(|acl| acl.name == name) {
            return Ok(at);
        }
        let Some(line) = PREDEFINED.iter().find(|line| line.0.as_bytes() == name) else {
            return Err(cat!("no such ACL : '", name, "'"));
        };
        let words: Vec<Text> = line.1.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        acls.push(Acl { name: name.to_vec(), tests: vec![Test::compile(&words, lists)?] });
        Ok(acls.len() - 1)
    }

    // ---- format strings ----------------------------------------------------

    /// Aliases of a format string that mean something here.
    const FIELDS: &[(&str, Field)] = &[
        ("B", Field::BytesOut),
        ("CC", Field::Dash),
        ("CS", Field::Dash),
        ("H", Field::Node),
        ("HM", Field::Method),
        ("HP", Field::Path),
        ("HPO", Field::Path),
        ("HQ", Field::Query),
        ("HU", Field::Target),
        ("HV", Field::Version),
        ("ST", Field::Status),
        ("T", Field::GmtDate),
        ("TR", Field::RequestTime),
        ("Ta", Field::TotalTime),
        ("Tc", Field::ServerTime),
        ("Th", Field::Zero),
        ("Ti", Field::Zero),
        ("Tl", Field::LocalDate),
        ("Tq", Field::RequestTime),
        ("Tr", Field::ServerTime),
        ("Ts", Field::Seconds),
        ("Tt", Field::TotalTime),
        ("Tw", Field::WaitTime),
        ("U", Field::BytesIn),
        ("ac", Field::Connections),
        ("b", Field::Frontend),
        ("bc", Field::Zero),
        ("bq", Field::Zero),
        ("ci", Field::ClientIp),
        ("cp", Field::ClientPort),
        ("f", Field::Frontend),
        ("fc", Field::FrontendConnections),
        ("fi", Field::FrontendIp),
        ("fp", Field::FrontendPort),
        ("ft", Field::Frontend),
        ("hr", Field::Nothing),
        ("hs", Field::Nothing),
        ("ms", Field::Millis),
        ("pid", Field::Pid),
        ("r", Field::Line),
        ("rc", Field::Zero),
        ("rt", Field::Requests),
        ("s", Field::Server),
        ("sc", Field::Zero),
        ("sq", Field::Zero),
        ("t", Field::Date),
        ("tr", Field::Date),
        ("trg", Field::GmtDate),
        ("trl", Field::LocalDate),
        ("ts", Field::ShortFlags),
        ("tsc", Field::Flags),
    ];

    /// `option httplog`, in its own language.
    pub const HTTPLOG: &str =
        "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %{+Q}r";
    /// `option tcplog`.
    pub const TCPLOG: &str = "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq";
    /// What is logged without either option: who connected where.
    pub const CONNECTION_LOG: &str = "Connect from %ci:%cp to %fi:%fp (%f/HTTP)";

    #[derive(Clone, Copy, Debug)]
    enum Field {
        BytesIn,
        BytesOut,
        ClientIp,
        ClientPort,
        Connections,
        Dash,
        Date,
        Flags,
        Frontend,
        FrontendConnections,
        FrontendIp,
        FrontendPort,
        GmtDate,
        Line,
        LocalDate,
        Method,
        Millis,
        Node,
        Nothing,
        Path,
        Pid,
        Query,
        RequestTime,
        Requests,
        Seconds,
        Server,
        ServerTime,
        ShortFlags,
        Status,
        Target,
        TotalTime,
        Version,
        WaitTime,
        Zero,
    }

    #[derive(Clone, Debug)]
    enum Piece {
        Literal(Text),
        /// Blanks of a log format: one, never two in a row.
        Blank,
        Field(Field, bool),
        Fetch(Fetch, bool),
    }

    /// A compiled format string.
    #[derive(Clone, Debug, Default)]
    pub struct Format(Vec<Piece>);

    impl Format {
        /// A format that is the text itself.
        pub fn literal(text: &[u8]) -> Self {
            Self(vec![Piece::Literal(text.to_vec())])
        }

        /// Adds what a fetch yields.
        pub fn then(mut self, fetch: Fetch) -> Self {
            self.0.push(Piece::Fetch(fetch, false));
            self
        }

        /// Compiles a format string; `log` merges blanks, as log-format does.
        pub fn compile(text: &[u8], log: bool, lists: &[Userlist]) -> Result<Self, Text> {
            let mut pieces = Vec::new();
            let mut literal = Vec::new();
            let mut quoted_all = false;
            let mut rest = text;
            while let Some((&byte, after)) = rest.split_first() {
                rest = after;
                if byte == b' ' && log {
                    flush(&mut literal, &mut pieces);
                    pieces.push(Piece::Blank);
                    rest = &rest[rest.iter().take_while(|&&byte| byte == b' ').count()..];
                    continue;
                }
                if byte != b'%' || rest.first() == Some(&b'%') {
                    literal.push(byte);
                    // "%%" is a percent sign
                    rest = &rest[usize::from(byte == b'%')..];
                    continue;
                }
                flush(&mut literal, &mut pieces);
                let mut quoted = quoted_all;
                if let Some(flags) = rest.strip_prefix(b"{") {
                    let (flags, after) = http::split_at_byte(flags, b'}');
                    rest = after;
                    quoted = match flags {
                        b"+Q" => true,
                        b"-Q" => false,
                        _ => {
                            return Err(cat!(
                                "flags '%{",
                                flags,
                                "}' of a format string are not supported, only +Q and -Q"
                            ));
                        }
                    };
                }
                if let Some(expression) = rest.strip_prefix(b"[") {
                    let (expression, after) = http::split_at_byte(expression, b']');
                    if after.is_empty() && !rest.ends_with(b"]") {
                        return Err(cat!("'%[' without its ']'"));
                    }
                    rest = after;
                    let (fetch, _, suffix) = Fetch::compile(expression, lists)?;
                    if !suffix.is_empty() {
                        return Err(cat!("unknown fetch '", expression, "'"));
                    }
                    pieces.push(Piece::Fetch(fetch, quoted));
                    continue;
                }
                let length = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
                let name = &rest[..length];
                rest = &rest[length..];
                if name == b"o" {
                    quoted_all = quoted;
                    continue;
                }
                match FIELDS.iter().find(|field| field.0.as_bytes() == name) {
                    Some(field) => pieces.push(Piece::Field(field.1, quoted)),
                    None => return Err(cat!("'%", name, "' is not supported in a format string")),
                }
            }
            flush(&mut literal, &mut pieces);
            Ok(Self(pieces))
        }

        /// The text, where nothing in it depends on a request.
        fn fixed(&self) -> Option<Text> {
            let mut text = Vec::new();
            for piece in &self.0 {
                match piece {
                    Piece::Literal(literal) => text.extend_from_slice(literal),
                    _ => return None,
                }
            }
            Some(text)
        }

        pub fn write(&self, scene: &Scene, out: &mut Out) {
            let mut blank = true;
            for piece in &self.0 {
                let mark = out.len();
                match piece {
                    Piece::Literal(text) => out.put(text),
                    Piece::Blank if blank => {}
                    Piece::Blank => out.put(" "),
                    Piece::Field(field, quoted) => quote(*quoted, out, |out| field.write(scene, out)),
                    Piece::Fetch(fetch, quoted) => quote(*quoted, out, |out| fetch.write(scene, out)),
                }
                if out.len() > mark {
                    blank = matches!(piece, Piece::Blank);
                }
            }
        }
    }

    fn flush(literal: &mut Text, pieces: &mut Vec<Piece>) {
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(literal)));
        }
    }

    fn quote(quoted: bool, out: &mut Out, write: impl FnOnce(&mut Out)) {
        let mark = if quoted { "\"" } else { "" };
        out.put(mark);
        write(out);
        out.put(mark);
    }

    impl Field {
        fn write(self, scene: &Scene, out: &mut Out) {
            let outcome = &scene.outcome;
            let bad = b"<BADREQ>";
            let request = scene.request;
            match self {
                Field::BytesIn => out.num(outcome.bytes_in),
                Field::BytesOut => out.num(outcome.bytes_out),
                Field::ClientIp => address(scene.peer.ip(), out),
                Field::ClientPort => out.num(scene.peer.port()),
                Field::Connections => out.num(scene.connections.0),
                Field::Dash => out.put("-"),
                Field::Date => date(scene.started, true, "", out),
                Field::Flags => out.put(outcome.flags),
                Field::Frontend => out.put(scene.frontend),
                Field::FrontendConnections => out.num(scene.connections.1),
                Field::FrontendIp => address(scene.local.ip(), out),
                Field::FrontendPort => out.num(scene.local.port()),
                Field::GmtDate | Field::LocalDate => date(scene.started, false, " +0000", out),
                Field::Line => escape(request.map_or(bad, |r| r.line), out),
                Field::Method => escape(request.map_or(bad, |r| r.method), out),
                Field::Millis => out.padded(scene.started.millis, 3),
                Field::Node => out.put(scene.node),
                Field::Nothing => {}
                Field::Path => escape(request.map_or(bad, |r| r.path()), out),
                Field::Pid => out.num(std::process::id()),
                Field::Query => {
                    let query = request.map_or(&b""[..], |r| r.query());
                    out.put(if query.is_empty() { "" } else { "?" });
                    escape(query, out);
                }
                Field::RequestTime => out.num(outcome.request_ms),
                Field::Requests => out.num(scene.requests),
                Field::Seconds => out.num(scene.started.seconds),
                Field::Server => out.put(outcome.server),
                Field::ServerTime => out.num(if outcome.server == "<NOSRV>" { -1 } else { 0 }),
                Field::ShortFlags => out.put(&outcome.flags[..2]),
                Field::Status => out.num(outcome.status),
                Field::Target => escape(request.map_or(bad, |r| r.target), out),
                Field::TotalTime => out.num(outcome.total_ms),
                Field::Version => escape(request.map_or(bad, |r| r.version), out),
                Field::WaitTime => out.num(outcome.waited_ms),
                Field::Zero => out.put("0"),
            }
        }
    }

    /// Text of a client in a log: a quote, a control character or a byte
    /// beyond ASCII is written as `#` and two hexadecimal digits.
    fn escape(text: &[u8], out: &mut Out) {
        for &byte in text {
            if byte.is_ascii_graphic() && !b"\"#{|}".contains(&byte) || byte == b' ' {
                out.put([byte]);
            } else {
                let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value)];
                out.put([b'#', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }

    pub const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

    /// Year, month (1 to 12) and day of a count of days since 1970.
    pub fn civil(days: u64) -> (u32, u32, u32) {
        // eras of 400 years that begin on the 1st of March, so that the leap
        // day is a year's last
        let shifted = days + 719_468;
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let date = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        ((era * 400 + year + u64::from(month <= 2)) as u32, month as u32, date as u32)
    }

    /// `23/Nov/2026:11:34:17.942`, in UTC.
    fn date(wall: Wall, millis: bool, zone: &str, out: &mut Out) {
        let (year, month, day) = civil(wall.seconds / 86_400);
        out.padded(day, 2);
        out.put("/");
        out.put(&MONTHS[month as usize * 3 - 3..month as usize * 3]);
        out.put("/");
        out.num(year);
        out.put(":");
        clock(wall, out);
        if millis {
            out.put(".");
            out.padded(wall.millis, 3);
        }
        out.put(zone);
    }

    /// `11:34:17`
    pub fn clock(wall: Wall, out: &mut Out) {
        let second = (wall.seconds % 86_400) as u32;
        out.padded(second / 3600, 2);
        out.put(":");
        out.padded(second / 60 % 60, 2);
        out.put(":");
        out.padded(second % 60, 2);
    }

    // ---- replies -----------------------------------------------------------

    /// What the answer says of the connection after it (RFC 9112 §9.3).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

    #[derive(Clone, Debug)]
    pub enum Body {
        Bytes(Text),
        Format(Format),
    }

    /// A configured or built-in answer.
    #[derive(Clone, Debug)]
    pub struct Reply {
        pub status: u16,
        /// `HTTP/1.1 200 OK`
        line: Text,
        /// Header fields before and behind the length.
        pub before: Vec<(Text, Format)>,
        pub after: Vec<(Text, Format)>,
        pub body: Body,
        /// Status line and fields, where no field depends on the request.
        head: Option<Text>,
    }

    impl Reply {
        pub fn new(status: u16, body: Body) -> Self {
            let line = cat!("HTTP/1.1 ", itoa::Buffer::new().format(status), " ", http::reason(status).0, "\r\n");
            Self { status, line, before: Vec::new(), after: Vec::new(), body, head: None }
        }

        /// The built-in answer for an error, or for a monitor's 200.
        pub fn standard(status: u16) -> Self {
            let (phrase, sentence) = http::reason(status);
            let title = cat!(itoa::Buffer::new().format(status), " ", phrase);
            let body = cat!("<!doctype html><title>", title, "</title><h1>", title, "</h1><p>", sentence, "</p>\n");
            let mut reply = Self::new(status, Body::Bytes(body));
            reply.fixed_field("cache-control", b"no-cache");
            reply.fixed_field("content-type", b"text/html");
            reply.prepare()
        }

        /// A redirection to where `location` says.
        pub fn redirect(status: u16, location: Format, cookie: Option<&[u8]>) -> Self {
            let mut reply = Self::new(status, Body::Bytes(Vec::new()));
            reply.after.push((b"location".to_vec(), location));
            if status == 302 {
                reply.fixed_field("cache-control", b"no-cache");
            }
            if let Some(cookie) = cookie {
                reply.fixed_field("set-cookie", cookie);
            }
            reply.prepare()
        }

        /// Reads a whole answer as it stands in an `errorfile`.
        pub fn from_file(text: &[u8]) -> Result<Self, Text> {
            let mut slots = [http::EMPTY_HEADER; http::MAX_HEADERS];
            let mut response = httparse::Response::new(&mut slots);
            let Ok(httparse::Status::Complete(length)) = response.parse(text) else {
                return Err(cat!("it holds no whole HTTP/1 answer"));
            };
            let mut reply = Self::new(response.code.unwrap_or(0), Body::Bytes(text[length..].to_vec()));
            if !(200..600).contains(&reply.status) {
                return Err(cat!("its status is not from 200 to 599"));
            }
            let phrase = response.reason.unwrap_or("");
            reply.line = cat!("HTTP/1.1 ", itoa::Buffer::new().format(reply.status), " ", phrase, "\r\n");
            for field in response.headers {
                let name = field.name.to_ascii_lowercase();
                // how the answer is framed is this server's affair
                if !matches!(name.as_str(), "content-length" | "transfer-encoding" | "connection") {
                    reply.fixed_field(&name, field.value);
                }
            }
            Ok(reply.prepare())
        }

        pub fn fixed_field(&mut self, name: &str, value: &[u8]) {
            self.after.push((name.as_bytes().to_vec(), Format::literal(value)));
        }

        /// Puts together at start what does not depend on a request.
        pub fn prepare(mut self) -> Self {
            if let Body::Format(format) = &self.body
                && let Some(text) = format.fixed()
            {
                self.body = Body::Bytes(text);
            }
            self.head = None;
            let Body::Bytes(body) = &self.body else { return self };
            let mut head = self.line.clone();
            let fixed = |head: &mut Text, fields: &[(Text, Format)]| {
                fields.iter().try_for_each(|(name, value)| {
                    *head = cat!(*head, name, ": ", value.fixed()?, "\r\n");
                    Some(())
                })
            };
            if fixed(&mut head, &self.before).is_none() {
                return self;
            }
            if self.has_length() {
                head = cat!(head, "content-length: ", itoa::Buffer::new().format(body.len()), "\r\n");
            }
            if fixed(&mut head, &self.after).is_some() {
                self.head = Some(head);
            }
            self
        }

        /// Bytes of it that are known at start.
        pub fn size(&self) -> usize {
            let body = match &self.body {
                Body::Bytes(body) => body.len(),
                Body::Format(_) => 0,
            };
            body + self.head.as_ref().map_or(0, Vec::len)
        }

        /// 204 and 304 have no body and no length (RFC 9110 §8.6).
        fn has_length(&self) -> bool {
            !matches!(self.status, 204 | 304)
        }

        /// Writes the answer. It is whole unless `out` is full afterwards.
        pub fn write(&self, scene: &Scene, head_only: bool, persistence: Persistence, out: &mut Out) {
            let with_body = !head_only && self.has_length();
            if let (Some(head), Body::Bytes(body)) = (&self.head, &self.body) {
                out.put(head);
                out.put(persistence.field());
                out.put("\r\n");
                if with_body {
                    out.put(body);
                }
                return;
            }
            let start = out.len();
            out.put(&self.line);
            self.put_fields(&self.before, scene, out);
            let length_at = out.len();
            self.put_fields(&self.after, scene, out);
            out.put(persistence.field());
            out.put("\r\n");
            let body_at = out.len();
            match &self.body {
                Body::Bytes(body) => out.put(body),
                Body::Format(format) => format.write(scene, out),
            }
            let body_length = out.len() - body_at;
            if !with_body {
                let full = out.full;
                out.truncate(body_at);
                out.full = full;
            }
            if self.has_length() {
                let mut line = [0; 40];
                let mut field = Out::new(&mut line, 0);
                field.put("content-length: ");
                field.num(body_length);
                field.put("\r\n");
                out.insert(length_at, field.written());
            }
            debug_assert!(out.full || out.len() > start);
        }

        fn put_fields(&self, fields: &[(Text, Format)], scene: &Scene, out: &mut Out) {
            for (name, value) in fields {
                out.put(name);
                out.put(": ");
                value.write(scene, out);
                out.put("\r\n");
            }
        }
    }

    /// What a matching `http-request` rule does.
    #[derive(Clone, Debug)]
    pub enum Action {
        Allow,
        Return(Reply),
        /// An answer that counts as denied.
        Deny(Reply),
        /// An answer after `timeout tarpit`.
        Tarpit(Reply),
        /// Close without an answer.
        Reject,
        Metrics,
    }

    #[derive(Clone, Debug)]
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

/// The batch of log lines and where it goes. Owns its buffer and the UDP
/// socket; calls rules and sys only.
mod log {
    use crate::out::Out;
    use crate::rules::{self, Wall};
    use crate::sys;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

    /// Room for the lines of one turn of the loop, in bytes.
    const BATCH: usize = 65_536;
    /// Longest line, as HAProxy's default; the rest is cut off.
    const MAX_LINE: usize = 1024;

    /// Where lines go: a descriptor of this process or a UDP address.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Place {
        Descriptor(i32),
        Udp(SocketAddr),
    }

    /// What stands before the text of a line.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Shape {
        Raw,
        /// `<134>` and the text.
        Short,
        Rfc3164,
        Rfc5424,
    }

    #[derive(Clone, Debug)]
    pub struct Target {
        pub place: Place,
        pub shape: Shape,
        /// Facility, 0 to 23 (RFC 5424 §6.2.1).
        pub facility: u8,
        /// Highest level that is sent; a request is logged at 6, "info".
        pub level: u8,
    }

    /// Lines of one turn, and a count of those that found no room.
    pub struct Log {
        batch: Vec<u8>,
        len: usize,
        /// Descriptor that the batch is for.
        descriptor: i32,
        socket: Option<UdpSocket>,
        pub dropped: u64,
    }

    impl Log {
        /// Takes the buffer; a log to UDP takes a socket too.
        pub fn new(targets: &[Target]) -> Self {
            let batched = targets.iter().any(|t| matches!(t.place, Place::Descriptor(_)));
            let udp = targets.iter().find_map(|t| match t.place {
                Place::Udp(to) => Some(to),
                Place::Descriptor(_) => None,
            });
            // SocketAddr, not a host and a port: std would bring a resolver along
            let any = |to: SocketAddr| match to {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            };
            let socket = udp.and_then(|to| UdpSocket::bind(any(to)).ok());
            let socket = socket.filter(|socket| socket.set_nonblocking(true).is_ok());
            Self { batch: vec![0; if batched { BATCH } else { 0 }], len: 0, descriptor: 1, socket, dropped: 0 }
        }

        /// Adds one line for one target. It is cut at [`MAX_LINE`] bytes.
        pub fn line(&mut self, target: &Target, wall: Wall, tag: &[u8], node: &[u8], write: impl FnOnce(&mut Out)) {
            let mut line = [0; MAX_LINE];
            let mut out = Out::new(&mut line[..MAX_LINE - 1], 0);
            prefix(target, wall, tag, node, &mut out);
            write(&mut out);
            let length = out.len();
            match target.place {
                Place::Udp(to) => {
                    let sent = self.socket.as_ref().map(|socket| socket.send_to(&line[..length], to));
                    self.dropped += u64::from(!matches!(sent, Some(Ok(_))));
                }
                Place::Descriptor(descriptor) => {
                    if descriptor != self.descriptor {
                        self.flush();
                        self.descriptor = descriptor;
                    }
                    line[length] = b'\n';
                    match self.batch.get_mut(self.len..=self.len + length) {
                        Some(room) => {
                            room.copy_from_slice(&line[..=length]);
                            self.len += length + 1;
                        }
                        None => self.dropped += 1,
                    }
                }
            }
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
                        self.dropped += self.batch[done..self.len].iter().filter(|&&byte| byte == b'\n').count() as u64;
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

    fn prefix(target: &Target, wall: Wall, tag: &[u8], node: &[u8], out: &mut Out) {
        if target.shape == Shape::Raw {
            return;
        }
        out.put("<");
        out.num(u32::from(target.facility) * 8 + 6);
        out.put(">");
        let (year, month, day) = rules::civil(wall.seconds / 86_400);
        match target.shape {
            Shape::Rfc3164 => {
                out.put(&rules::MONTHS[month as usize * 3 - 3..month as usize * 3]);
                out.put(if day < 10 { "  " } else { " " });
                out.num(day);
                out.put(" ");
                rules::clock(wall, out);
                out.put(" ");
                out.put(tag);
                out.put("[");
                out.num(std::process::id());
                out.put("]: ");
            }
            Shape::Rfc5424 => {
                out.put("1 ");
                out.num(year);
                out.put("-");
                out.padded(month, 2);
                out.put("-");
                out.padded(day, 2);
                out.put("T");
                rules::clock(wall, out);
                out.put(".");
                out.padded(wall.millis, 3);
                out.put("+00:00 ");
                out.put(if node.is_empty() { b"-" } else { node });
                out.put(" ");
                out.put(tag);
                out.put(" ");
                out.num(std::process::id());
                out.put(" - - ");
            }
            Shape::Short | Shape::Raw => {}
        }
    }
}

/// HTTP/1 requests as RFC 9110 and RFC 9112 define them, as pure functions
/// over byte slices. Owns the grammar; calls httparse only.
mod http {
    pub use httparse::{EMPTY_HEADER, Header};

    /// Most header fields of a request; one more is a 400.
    pub const MAX_HEADERS: usize = 100;
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
    pub fn parse<'h, 'b>(buffer: &'b [u8], slots: &'h mut [Header<'b>; MAX_HEADERS]) -> Parsed<'h, 'b> {
        if buffer.starts_with(H2_PREFACE) {
            return Parsed::Http2;
        }
        let Some(end) = buffer.iter().position(|&byte| byte == b'\n') else {
            // an error that shows early is answered early: TLS, other protocols
            let method = buffer.iter().take_while(|&&byte| is_token(byte)).count();
            let fine = buffer[method..].is_empty() || method > 0 && matches!(buffer[method], b' ' | b'\t');
            return if fine { Parsed::Partial } else { Parsed::Bad(400) };
        };
        let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
        let Some((method, target, version)) = request_line(line) else {
            return Parsed::Bad(400);
        };
        let (length, headers) = match httparse::parse_headers(&buffer[end + 1..], slots) {
            Ok(httparse::Status::Complete((length, headers))) => (end + 1 + length, headers),
            Ok(httparse::Status::Partial) => return Parsed::Partial,
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
        request.keep_alive = !close && (!old || keep) && !(chunked && length.is_some());
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
        text.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%[]".contains(&byte))
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
    use std::io;
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
                let free = match meminfo() {
                    Some(bytes) => bytes,
                    None => info.free.saturating_mul(u64::from(info.unit.max(1))),
                };
                available = available.min(free);
            }
        }
        match std::fs::read("/sys/fs/cgroup/memory.max") {
            Ok(text) => available.min(leading_number(&text).unwrap_or(u64::MAX)),
            Err(_) => available,
        }
    }

    fn meminfo() -> Option<u64> {
        let text = std::fs::read("/proc/meminfo").ok()?;
        let key = b"MemAvailable:";
        let at = text.windows(key.len()).position(|window| window == key)?;
        leading_number(text[at + key.len()..].trim_ascii_start()).map(|kib| kib * 1024)
    }

    fn leading_number(text: &[u8]) -> Option<u64> {
        let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
        std::str::from_utf8(&text[..end]).ok()?.parse().ok()
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

    /// Goes on in the background, as daemon(3) does.
    pub fn background() -> io::Result<()> {
        // SAFETY: called before any thread exists.
        match unsafe { daemon(1, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// What an error of the system is called.
    pub fn reason(error: &io::Error) -> String {
        error.to_string()
    }
}

/// A bounded writer over a byte slice. Owns nothing; calls itoa only.
mod out {
    /// See `cat!`: a function, so that each of its many uses stays small.
    #[inline(never)]
    pub fn join(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
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

        pub fn put(&mut self, text: impl AsRef<[u8]>) {
            self.put_bytes(text.as_ref());
        }

        #[inline(never)]
        fn put_bytes(&mut self, text: &[u8]) {
            if text.len() > self.room() {
                self.full = true;
                return;
            }
            self.bytes[self.len..self.len + text.len()].copy_from_slice(text);
            self.len += text.len();
        }

        pub fn num(&mut self, number: impl itoa::Integer) {
            self.put_bytes(itoa::Buffer::new().format(number).as_bytes());
        }

        /// A number with leading zeros, `digits` wide.
        pub fn padded(&mut self, number: u32, digits: usize) {
            let mut buffer = itoa::Buffer::new();
            let text = buffer.format(number);
            self.put_bytes(&b"0000"[..digits.saturating_sub(text.len()).min(4)]);
            self.put_bytes(text.as_bytes());
        }

        /// Text inside HTML, element or attribute.
        pub fn html(&mut self, text: &[u8]) {
            self.escaped(text, |byte| match byte {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                b'\'' => "&#39;",
                _ => "",
            });
        }

        /// Text inside a JSON string; bytes beyond ASCII are passed as they are.
        pub fn json(&mut self, text: &[u8]) {
            self.escaped(text, |byte| match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                b'\n' => "\\n",
                0..=31 => "?",
                _ => "",
            });
        }

        /// A value of a Prometheus label.
        pub fn label(&mut self, text: &[u8]) {
            self.escaped(text, |byte| match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                b'\n' => "\\n",
                _ => "",
            });
        }

        /// Copies `text`, bytes for which `escape` has a word replaced by it.
        fn escaped(&mut self, text: &[u8], escape: fn(u8) -> &'static str) {
            let mut plain = 0;
            for (at, &byte) in text.iter().enumerate() {
                let word = escape(byte);
                if !word.is_empty() {
                    self.put_bytes(&text[plain..at]);
                    self.put_bytes(word.as_bytes());
                    plain = at + 1;
                }
            }
            self.put_bytes(&text[plain..]);
        }

        /// Puts `text` before what was written from `at` on.
        pub fn insert(&mut self, at: usize, text: &[u8]) {
            let end = self.len;
            if self.room() < text.len() {
                self.full = true;
                return;
            }
            self.bytes.copy_within(at..end, at + text.len());
            self.bytes[at..at + text.len()].copy_from_slice(text);
            self.len += text.len();
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
