//! Names and their addresses: who looks them up, and who waits for whom.
//!
//! The system's resolver (getaddrinfo) cannot be stopped, and waits as long as its servers are silent. So it runs on a few
//! threads of its own, whose number counts until the look-up has ended, and never on those of anything else. A name is
//! looked up once for all who wait for it; a name that took long leaves some threads to the others. `Lookups` decides
//! this, and reads no clock; [`Names`] has the threads.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, ToSocketAddrs},
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, timeout},
};

use crate::settings::units;

/// Look-ups at the same time. Each is a thread that waits for the network; good ones take milliseconds.
const THREADS_MAX: usize = 8;
/// Of these, for names that took long the last time.
const SLOW_MAX: usize = 5;
/// A look-up that takes longer makes its name a slow one.
const SLOW_FROM: Duration = Duration::from_secs(1);
/// Who waits longer is told that no answer comes, before the time for a connection is over (10 s), which says less.
const WITHIN: Duration = Duration::from_secs(8);
/// A few seconds: many bridges at one origin ask at once, and an address that moves is found at the next poll.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// A name that does not exist is not asked for by each of its bridges.
const FAILED_FOR: Duration = Duration::from_secs(5);
/// Names that are remembered or wait; what is remembered gives way.
const NAMES_MAX: usize = 10_000;

/// Why a name has no addresses.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// In the system's own words.
    #[error("{0}")]
    Failed(String),
    #[error(
        "the system's resolver did not answer for {name} within {}: look at the servers of /etc/resolv.conf",
        units::show(WITHIN)
    )]
    Late { name: String },
    #[error(
        "{name} is not looked up: {THREADS_MAX} other names have waited longer than {} for the system's resolver: look at \
         the servers of /etc/resolv.conf",
        units::show(WITHIN)
    )]
    Stuck { name: String },
    #[error("{name} is not looked up: {NAMES_MAX} other names wait for the system's resolver")]
    Full { name: String },
}

type Addresses = Arc<[IpAddr]>;
type Found = Result<Addresses, Error>;
/// `None` until the look-up has ended.
type Answering = watch::Receiver<Option<Found>>;

/// What is known of a name.
#[derive(Debug)]
struct KnownName {
    stage: Phase,
    /// The last look-up took long.
    slow: bool,
}

#[derive(Debug)]
enum Phase {
    Waits(watch::Sender<Option<Found>>),
    Asked(Instant, watch::Sender<Option<Found>>),
    Answered(Found, Instant),
}

/// What the one who asks gets.
#[derive(Debug)]
enum Reply {
    Answer(Found),
    /// Another one asked already, or a thread may have to be started: see [`Lookups::next`].
    Wait(Answering),
}

/// Names that are looked up, wait for it, or were looked up a moment ago.
#[derive(Debug, Default)]
struct Lookups {
    names: HashMap<String, KnownName>,
    quick: VecDeque<String>,
    slow: VecDeque<String>,
    running: usize,
    running_slow: usize,
}

impl Lookups {
    fn ask(&mut self, name: &str, now: Instant) -> Reply {
        let mut slow = false;
        if let Some(known) = self.names.get(name) {
            slow = known.slow;
            match &known.stage {
                Phase::Answered(answer, until) if now < *until => return Reply::Answer(answer.clone()),
                Phase::Answered(..) => {}
                Phase::Asked(since, _) if now.duration_since(*since) >= WITHIN => {
                    return Reply::Answer(Err(Error::Late { name: name.to_owned() }));
                }
                Phase::Asked(_, answer) | Phase::Waits(answer) => return Reply::Wait(answer.subscribe()),
            }
        }
        if self.stuck(now) == THREADS_MAX {
            return Reply::Answer(Err(Error::Stuck { name: name.to_owned() }));
        }
        if self.names.len() >= NAMES_MAX {
            self.forget(now);
        }
        if self.names.len() >= NAMES_MAX {
            return Reply::Answer(Err(Error::Full { name: name.to_owned() }));
        }
        let (answer, answering) = watch::channel(None);
        self.names.insert(name.to_owned(), KnownName { stage: Phase::Waits(answer), slow });
        let line = if slow { &mut self.slow } else { &mut self.quick };
        line.push_back(name.to_owned());
        Reply::Wait(answering)
    }

    /// The name that is looked up next, on one thread more; `None` where all that may be used are.
    fn next(&mut self, now: Instant) -> Option<String> {
        while self.running < THREADS_MAX {
            let may_be_slow = self.running_slow < SLOW_MAX;
            let name = self.quick.pop_front().or_else(|| may_be_slow.then(|| self.slow.pop_front()).flatten())?;
            let Some(KnownName { stage, slow }) = self.names.get_mut(&name) else { continue };
            let Phase::Waits(answer) = stage else { continue };
            if answer.is_closed() {
                // All who waited for it have given up.
                self.names.remove(&name);
                continue;
            }
            let answer = answer.clone();
            *stage = Phase::Asked(now, answer);
            self.running += 1;
            self.running_slow += usize::from(*slow);
            return Some(name);
        }
        None
    }

    /// A look-up has ended, and with it the use of its thread.
    fn ended(&mut self, name: &str, answer: Found, now: Instant) {
        let Some(known) = self.names.get_mut(name) else { return };
        let until = now + if answer.is_ok() { KNOWN_FOR } else { FAILED_FOR };
        let stage = std::mem::replace(&mut known.stage, Phase::Answered(answer.clone(), until));
        self.running -= 1;
        self.running_slow -= usize::from(known.slow);
        if let Phase::Asked(since, waiting) = stage {
            known.slow = now.duration_since(since) >= SLOW_FROM;
            waiting.send_replace(Some(answer));
        }
    }

    /// Look-ups that may never end.
    fn stuck(&self, now: Instant) -> usize {
        if self.running < THREADS_MAX {
            return 0;
        }
        let is_stuck =
            |known: &&KnownName| matches!(&known.stage, Phase::Asked(since, _) if now.duration_since(*since) >= WITHIN);
        self.names.values().filter(is_stuck).count()
    }

    /// Leaves what is under way, or waited for.
    fn forget(&mut self, now: Instant) {
        self.names.retain(|_, known| match &known.stage {
            Phase::Waits(answer) => !answer.is_closed(),
            Phase::Asked(..) => true,
            Phase::Answered(_, until) => now < *until,
        });
        let names = &self.names;
        for line in [&mut self.quick, &mut self.slow] {
            line.retain(|name| matches!(names.get(name), Some(KnownName { stage: Phase::Waits(_), .. })));
        }
    }
}

/// What asks the system, as long as it takes.
type Lookup = dyn Fn(&str) -> std::io::Result<Vec<IpAddr>> + Send + Sync;

/// The names of the process; cheap to clone.
#[derive(Clone)]
pub struct Names {
    lookups: Arc<Mutex<Lookups>>,
    system: Arc<Lookup>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
}

impl Default for Names {
    /// Those that all clients share: threads that are stuck stay so over a reload.
    fn default() -> Self {
        static ALL: LazyLock<Names> = LazyLock::new(|| Names::new(Arc::new(of_the_system)));
        ALL.clone()
    }
}

fn of_the_system(name: &str) -> std::io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

impl Names {
    fn new(system: Arc<Lookup>) -> Self {
        Self { lookups: Arc::default(), system }
    }

    /// The addresses of a name, in the system's order.
    pub async fn addresses(&self, name: &str) -> Found {
        let asked = self.lock().ask(name, Instant::now());
        let mut answering = match asked {
            Reply::Answer(answer) => return answer,
            Reply::Wait(answering) => answering,
        };
        self.start();
        let late = || Error::Late { name: name.to_owned() };
        let answer = timeout(WITHIN, answering.wait_for(Option::is_some)).await;
        let answer = answer.map_err(|_| late())?.map_err(|_| late())?;
        answer.clone().ok_or_else(late).flatten()
    }

    fn lock(&self) -> MutexGuard<'_, Lookups> {
        self.lookups.lock().expect("no thread panics with it")
    }

    /// Starts threads for what waits. A thread that has ended a look-up takes the next one.
    fn start(&self) {
        loop {
            let Some(name) = self.lock().next(Instant::now()) else { return };
            let (names, runtime, first) = (self.clone(), Handle::current(), name.clone());
            let work = move || {
                // Its clock is the one that those who wait look at.
                let _entered = runtime.enter();
                let mut next = Some(first);
                while let Some(name) = next {
                    let found = (names.system)(&name).map(Into::into).map_err(|e| Error::Failed(e.to_string()));
                    let mut lookups = names.lock();
                    lookups.ended(&name, found, Instant::now());
                    next = lookups.next(Instant::now());
                }
            };
            if let Err(error) = std::thread::Builder::new().name("names".into()).spawn(work) {
                let failed = Error::Failed(format!("failed to start a thread: {error}"));
                self.lock().ended(&name, Err(failed), Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::mpsc};

    use super::*;

    const LOOPBACK: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)];

    fn good() -> Found {
        Ok(LOOPBACK.into())
    }

    /// Asks for a name that has to be looked up.
    fn wait(lookups: &mut Lookups, name: &str, now: Instant) -> Answering {
        match lookups.ask(name, now) {
            Reply::Wait(answering) => answering,
            Reply::Answer(answer) => panic!("{name}: {answer:?}"),
        }
    }

    fn told(lookups: &mut Lookups, name: &str, now: Instant) -> Found {
        match lookups.ask(name, now) {
            Reply::Answer(answer) => answer,
            Reply::Wait(_) => panic!("{name} is looked up"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_look_up_serves_all_who_wait_and_those_who_come_soon_after() {
        let (mut lookups, now) = (Lookups::default(), Instant::now());
        let (first, second) = (wait(&mut lookups, "a", now), wait(&mut lookups, "a", now));
        assert_eq!((lookups.next(now).as_deref(), lookups.next(now)), (Some("a"), None));
        lookups.ended("a", good(), now);
        assert_eq!((first.borrow().clone(), second.borrow().clone()), (Some(good()), Some(good())));
        assert_eq!(told(&mut lookups, "a", now + KNOWN_FOR / 2), good());
        let _asked_again = wait(&mut lookups, "a", now + KNOWN_FOR);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_remembered_for_a_moment() {
        let (mut lookups, now) = (Lookups::default(), Instant::now());
        let _waiting = wait(&mut lookups, "a", now);
        assert_eq!(lookups.next(now).as_deref(), Some("a"));
        let failed = Err(Error::Failed("name or service not known".into()));
        lookups.ended("a", failed.clone(), now);
        assert_eq!(told(&mut lookups, "a", now + FAILED_FOR / 2), failed);
        let _asked_again = wait(&mut lookups, "a", now + FAILED_FOR);
    }

    /// 150 names whose servers were silent held all threads of the daemon: deliveries to literal addresses, the store and
    /// `/metrics` waited for them. Their permits came back when the polls gave up, and the threads did not.
    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_is_silent_holds_its_own_threads_and_is_told() {
        let (mut lookups, now) = (Lookups::default(), Instant::now());
        let names: Vec<String> = (0..150).map(|n| format!("api{n}.example.test")).collect();
        let waiting: Vec<Answering> = names.iter().map(|name| wait(&mut lookups, name, now)).collect();
        let running: Vec<String> = std::iter::from_fn(|| lookups.next(now)).collect();
        assert_eq!(running, names[..THREADS_MAX]);
        // All who waited have given up, and the system has not.
        drop(waiting);
        let later = now + WITHIN;
        assert_eq!(lookups.next(later), None);
        assert_eq!(told(&mut lookups, "other", later), Err(Error::Stuck { name: "other".into() }));
        assert_eq!(told(&mut lookups, &names[0], later), Err(Error::Late { name: names[0].clone() }));
        // One gives up at last: what is still waited for goes on, and what nobody waits for is left out.
        let ended = later + Duration::from_secs(2);
        lookups.ended(&names[0], Err(Error::Failed("no answer".into())), ended);
        let _other = wait(&mut lookups, "other", ended);
        assert_eq!((lookups.next(ended).as_deref(), lookups.next(ended)), (Some("other"), None));
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_took_long_leave_threads_to_the_others() {
        let (mut lookups, now) = (Lookups::default(), Instant::now());
        let names: Vec<String> = (0..20).map(|n| format!("slow{n}.example.test")).collect();
        let mut waiting: Vec<Answering> = names.iter().map(|name| wait(&mut lookups, name, now)).collect();
        let later = now + Duration::from_secs(5);
        while let Some(name) = lookups.next(now) {
            lookups.ended(&name, good(), later);
        }
        let again = later + KNOWN_FOR;
        waiting.extend(names.iter().map(|name| wait(&mut lookups, name, again)));
        let running: Vec<String> = std::iter::from_fn(|| lookups.next(again)).collect();
        assert_eq!(running.len(), SLOW_MAX);
        waiting.push(wait(&mut lookups, "quick", again));
        assert_eq!(lookups.next(again).as_deref(), Some("quick"));
        lookups.ended("quick", good(), again);
        lookups.ended(&running[0], good(), again);
        // It was quick this time, and another slow one has its place.
        assert_eq!(lookups.next(again).as_deref(), Some(&*names[SLOW_MAX]));
        assert_eq!(told(&mut lookups, "quick", again), good());
    }

    /// Steps of all kinds in an order that a seed decides: the threads are never more than they may be, nobody waits for
    /// a name that nothing looks up, and when all has ended nothing is left.
    #[tokio::test(start_paused = true)]
    async fn whatever_comes_in_whatever_order_no_thread_and_no_name_is_lost() {
        for seed in 0..50_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut random = move |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            let (mut lookups, mut now) = (Lookups::default(), Instant::now());
            let (mut waiting, mut running) = (Vec::new(), BTreeSet::new());
            for _ in 0..400 {
                now += Duration::from_millis(random(3000));
                match random(4) {
                    0 | 1 => {
                        if let Reply::Wait(answering) = lookups.ask(&format!("n{}", random(30)), now) {
                            waiting.push(answering);
                        }
                    }
                    2 => {
                        let ended = running.pop_first();
                        let answer = if random(2) == 0 { good() } else { Err(Error::Failed("no".into())) };
                        ended.iter().for_each(|name: &String| lookups.ended(name, answer.clone(), now));
                    }
                    _ => waiting.truncate(usize::try_from(random(20)).expect("small")),
                }
                while let Some(name) = lookups.next(now) {
                    assert!(running.insert(name), "seed {seed}: looked up twice at once");
                }
                assert!(running.len() == lookups.running && running.len() <= THREADS_MAX, "seed {seed}");
            }
            while let Some(name) = running.pop_first() {
                lookups.ended(&name, good(), now);
                running.extend(lookups.next(now));
            }
            assert!(waiting.iter().all(|answering| answering.borrow().is_some()), "seed {seed}");
            assert_eq!((lookups.running, lookups.running_slow), (0, 0), "seed {seed}");
            assert!(lookups.quick.is_empty() && lookups.slow.is_empty(), "seed {seed}");
        }
    }

    #[tokio::test]
    async fn who_asks_for_another_name_does_not_wait_for_one_that_hangs() {
        let (release, hang) = mpsc::channel::<()>();
        let hang = Mutex::new(hang);
        let system = move |name: &str| match name {
            "hangs" => {
                // Ends with the test.
                let _ = hang.lock().expect("no thread panics with it").recv();
                Err(std::io::Error::other("gave up"))
            }
            "fails" => Err(std::io::Error::other("not known")),
            _ => Ok(LOOPBACK.to_vec()),
        };
        let names = Names::new(Arc::new(system));
        let hanging = tokio::spawn({
            let names = names.clone();
            async move { names.addresses("hangs").await }
        });
        assert_eq!(names.addresses("good").await, good());
        assert_eq!(names.addresses("fails").await, Err(Error::Failed("not known".into())));
        drop(release);
        assert_eq!(hanging.await.expect("a task"), Err(Error::Failed("gave up".into())));
    }
}
