//! Random clients: what they send, and when they wait for an answer.

use super::messages::{bind, close, describe, empty, execute, frame, parse, query, show};

/// Xorshift; a seed is a run.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        (0..4).for_each(|_| _ = random.next());
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() >> 11).expect("64 bits") % n
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// What a client sends at once; each part may be left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Burst {
    pub parts: Vec<Vec<u8>>,
    /// Nothing more is sent before all is there that a server of its own would have said by now.
    pub wait: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// TimeZone and application_name at login.
    pub settings: [&'static str; 2],
    pub bursts: Vec<Burst>,
    /// Goes away after so many bytes.
    pub vanishes_after: Option<usize>,
}

impl Script {
    pub(crate) fn show(&self) -> String {
        let mut out = format!("settings {:?}, vanishes after {:?}\n", self.settings, self.vanishes_after);
        for burst in &self.bursts {
            out += &format!("  {}{}\n", show(&burst.parts.concat()), if burst.wait { "  …" } else { "" });
        }
        out
    }
}

/// What all clients and servers start with unless they say otherwise.
pub(crate) const DEFAULT: [&str; 2] = ["A", "A"];

pub(crate) fn script(random: &mut Random, client: usize) -> Script {
    let settings = if random.chance(40) { DEFAULT } else { [random.of(&["A", "B"]), random.of(&["A", "C"])] };
    let mut writer = Writer { random, client, serial: 0, may_discard: settings == DEFAULT };
    let mut bursts = Vec::new();
    for _ in 0..1 + writer.random.below(7) {
        writer.bursts(&mut bursts);
    }
    bursts.push(Burst { parts: vec![empty(b'f'), empty(b'S'), query("rollback"), query("select end")], wait: true });
    let size: usize = bursts.iter().map(|burst| burst.parts.concat().len()).sum();
    let vanishes_after = random.chance(10).then(|| random.below(size));
    Script { settings, bursts, vanishes_after }
}

/// Before its end the client commits a block, whatever it did before.
pub(crate) fn with_block(random: &mut Random, client: usize, mut script: Script) -> Script {
    let burst = |parts, wait| Burst { parts, wait };
    let commit = match random.below(3) {
        0 => vec![query("commit")],
        1 => vec![parse("", "commit"), bind("", "", ""), execute("", 0), empty(b'S')],
        // What is executed was not bound last.
        _ => {
            let select = format!("select c{client}.bound");
            vec![
                parse("", "commit"),
                bind("p", "", ""),
                parse("", &select),
                bind("", "", ""),
                execute("p", 0),
                empty(b'S'),
            ]
        }
    };
    let at = script.bursts.len() - 1;
    script.bursts.splice(
        at..at,
        [
            burst(vec![empty(b'f'), empty(b'S'), query("rollback"), query("begin")], true),
            burst(vec![query(&format!("select c{client}.block"))], random.chance(70)),
            burst(commit, random.chance(50)),
        ],
    );
    script
}

struct Writer<'a> {
    random: &'a mut Random,
    client: usize,
    serial: usize,
    may_discard: bool,
}

impl Writer<'_> {
    /// Tells this request from all others.
    fn own(&mut self) -> String {
        self.serial += 1;
        format!("c{}.{}", self.client, self.serial)
    }

    fn bursts(&mut self, out: &mut Vec<Burst>) {
        if self.random.chance(12) {
            let again = 2 + self.random.below(4);
            out.extend((0..again).map(|_| Burst { parts: self.recurring(), wait: true }));
            return;
        }
        let mut burst = Burst::default();
        for _ in 0..1 + self.random.below(5) {
            let mut parts = self.unit();
            if self.random.chance(10) {
                let rest = parts.split_off(self.random.below(parts.len()));
                burst.parts.append(&mut parts);
                let wait = self.random.chance(70);
                out.push(Burst { wait, ..std::mem::take(&mut burst) });
                parts = rest;
            }
            burst.parts.append(&mut parts);
        }
        burst.wait = self.random.chance(60);
        out.push(burst);
    }

    fn unit(&mut self) -> Vec<Vec<u8>> {
        match self.random.below(22) {
            21 => self.unnamed_later(),
            20 => self.alone(),
            0..4 => vec![query(&self.simple_text())],
            4..7 => self.unnamed(),
            7..10 => self.named(),
            10..12 => {
                let name = self.name();
                let value = self.own();
                self.synced(vec![bind("", name, &value), execute("", 0)])
            }
            12 => vec![close(b'S', self.name())],
            13 => vec![empty(self.random.of(&[&b'S', &b'H']).to_owned())],
            14 => vec![frame(b'F', &[b"\0\0\0\x01\0\0\0\0\0\0"])],
            15 => self.copy_simple(),
            16 => self.copy_extended(),
            17 => vec![frame(b'd', &[b"late"]), empty(b'c')],
            18 => self.portal(),
            _ => vec![query(self.random.of(&["begin", "commit", "rollback"]))],
        }
    }

    fn name(&mut self) -> &'static str {
        self.random.of(&["a", "b", "c"])
    }

    fn synced(&mut self, mut parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        match self.random.below(10) {
            0 => {}
            1 => parts.push(empty(b'H')),
            _ => parts.push(empty(b'S')),
        }
        parts
    }

    fn set(&mut self) -> String {
        let name = self.random.of(&["TimeZone", "application_name"]);
        format!("set {name} to '{}'", self.random.of(&["a", "b", "c", "bad"]))
    }

    fn simple_text(&mut self) -> String {
        let own = self.own();
        match self.random.below(24) {
            0..6 => format!("select {own}"),
            6 => format!("fail {own}"),
            7 | 8 => self.set(),
            9 => format!("begin; {}", self.set()),
            10 => format!("select {own}; {}; select {own}", self.set()),
            11 => format!("select {own}; fail {own}; select {own}"),
            12 => self.random.of(&["savepoint s", "rollback to s"]).to_owned(),
            13 => self.random.of(&["begin; savepoint s", "savepoint s; fail s"]).to_owned(),
            14 => self.random.of(&["rollback and chain", "commit and chain"]).to_owned(),
            15 => format!("copy out {own}"),
            16 => format!("big {own}"),
            17 => format!("warn {own}"),
            18 => String::new(),
            19 => "deallocate all".to_owned(),
            21 if self.random.chance(10) => format!("fatal {own}"),
            // What follows the end of a failed block in one text runs before settings can be sent again.
            22 => format!("select {own}; commit"),
            _ => format!("rows {own}"),
        }
    }

    /// Few, so that clients share them.
    fn shared_text(&mut self) -> String {
        let number = self.random.below(5);
        match self.random.below(20) {
            0..9 => format!("select s{number}"),
            9..11 => format!("rows s{number}"),
            11 => format!("fail s{number}"),
            12 => format!("big s{number}"),
            13 => format!("copy out s{number}"),
            14 => self.set(),
            15 => {
                let chain = self.random.of(&["rollback and chain", "commit and chain"]);
                self.random.of(&["begin", "commit", "rollback", "savepoint s", "rollback to s", chain]).to_owned()
            }
            16 => self.random.of(&["deallocate all", ""]).to_owned(),
            17 => format!("warn s{number}"),
            _ => format!("select s{number}"),
        }
    }

    fn unnamed(&mut self) -> Vec<Vec<u8>> {
        let text = if self.random.chance(8) { "syntax".to_owned() } else { self.shared_text() };
        let mut parts = vec![parse("", &text)];
        if self.random.chance(20) {
            parts.push(describe(b'S', ""));
        }
        parts.push(bind("", "", &self.own()));
        if self.random.chance(30) {
            parts.push(describe(b'P', ""));
        }
        parts.push(execute("", self.random.below(5) as u32));
        self.synced(parts)
    }

    /// Texts of which servers refuse to bind what was prepared of them, now and then.
    fn recurring(&mut self) -> Vec<Vec<u8>> {
        let number = self.random.below(3);
        let mut parts = vec![parse("", &format!("select r{number}")), bind("", "", &self.own())];
        if self.random.chance(50) {
            parts.push(describe(b'P', ""));
        }
        parts.extend([execute("", 0), empty(b'S')]);
        parts
    }

    /// The unnamed statement is used in another transaction than the one that made it, and may have been in that.
    fn unnamed_later(&mut self) -> Vec<Vec<u8>> {
        let number = self.random.below(5);
        let make = [parse("", &format!("select s{number}")), describe(b'S', "")];
        let mut used = || vec![bind("", "", &self.own()), execute("", 0), empty(b'S')];
        let uses = [used(), used()];
        let first = if self.random.chance(50) { &uses[0][2..] } else { &uses[0] };
        [&make[..], first, &uses[1]].concat()
    }

    fn named(&mut self) -> Vec<Vec<u8>> {
        let name = self.name();
        let mut parts = Vec::new();
        if self.random.chance(50) {
            parts.push(close(b'S', name));
        }
        parts.push(parse(name, &self.shared_text()));
        if self.random.chance(30) {
            parts.push(describe(b'S', name));
        }
        if self.random.chance(20) {
            parts = self.synced(parts);
        }
        if self.random.chance(80) {
            parts.push(bind("", name, &self.own()));
            parts.push(execute("", 0));
        }
        self.synced(parts)
    }

    /// What may not run behind anything else: here it doesn't run behind a Parse alone either, as settings may be
    /// before that.
    fn alone(&mut self) -> Vec<Vec<u8>> {
        let text = if self.may_discard { self.random.of(&["vacuum", "discard all"]) } else { "vacuum" };
        if self.random.chance(50) {
            return vec![empty(b'S'), query(text)];
        }
        vec![empty(b'S'), parse("", text), bind("", "", ""), execute("", 0), empty(b'S')]
    }

    fn portal(&mut self) -> Vec<Vec<u8>> {
        let name = self.name();
        let mut parts = vec![bind("p", name, &self.own()), execute("p", 2)];
        if self.random.chance(50) {
            parts.push(execute("p", 2));
        }
        if self.random.chance(50) {
            parts.push(close(b'P', "p"));
        }
        self.synced(parts)
    }

    fn copy_text(&mut self) -> String {
        format!("{} {}", self.random.of(&["copy", "copy", "copy", "copy fail"]), self.own())
    }

    fn copy_data(&mut self, parts: &mut Vec<Vec<u8>>) {
        for _ in 0..self.random.below(4) {
            let row = if self.random.chance(15) { "bad" } else { "good" };
            parts.push(frame(b'd', &[row.as_bytes(), &vec![b'.'; self.random.below(300)]]));
        }
        parts.push(if self.random.chance(15) { frame(b'f', &[b"no\0"]) } else { empty(b'c') });
    }

    fn copy_simple(&mut self) -> Vec<Vec<u8>> {
        let text = self.copy_text();
        let both = self.random.chance(20);
        let mut parts = vec![query(&if both { format!("{text}; copy 2") } else { text })];
        if self.random.chance(20) {
            parts.push(empty(b'S'));
        }
        self.copy_data(&mut parts);
        if both {
            self.copy_data(&mut parts);
        }
        parts
    }

    fn copy_extended(&mut self) -> Vec<Vec<u8>> {
        let text = self.copy_text();
        let mut parts = vec![parse("", &text), bind("", "", ""), execute("", 0)];
        (0..self.random.below(3)).for_each(|_| parts.push(empty(b'S')));
        if self.random.chance(10) {
            parts.push(empty(b'H'));
        }
        self.copy_data(&mut parts);
        parts.push(empty(b'S'));
        parts
    }
}
