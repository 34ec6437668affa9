//! Reads a statement to its end, whatever it is: the names in it, what is called, words that change what it does.

use smallvec::SmallVec;

use super::super::keywords::{Class, Keyword};
use super::super::lexer::Kind;
use super::super::source::Span;
use super::call::Call;
use super::reader::{Reader, Word};

/// What was found in a statement, whatever it is.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) calls: SmallVec<[Call; 2]>,
    pub(super) names: SmallVec<[Span; 4]>,
    pub(super) seen: Seen,
    /// The position behind the last token.
    pub(super) end: usize,
}

/// Words that change what a statement does.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// INTO that is not INSERT's or MERGE's.
    pub(super) into: bool,
    /// That INTO is followed by TEMP.
    pub(super) into_temp: bool,
    /// INSERT, UPDATE, DELETE or MERGE where a statement may stand, which is not at the beginning.
    pub(super) writes: bool,
    /// FOR UPDATE, FOR SHARE and their like.
    pub(super) locks: bool,
    /// A name in the schema of temporary objects.
    pub(super) temp_name: bool,
    /// CONCURRENTLY
    pub(super) concurrently: bool,
    /// ON COMMIT DROP
    pub(super) drop_on_commit: bool,
    /// SET TABLESPACE
    pub(super) set_tablespace: bool,
    /// AS with a query or EXECUTE behind it, outside of brackets.
    pub(super) as_query: bool,
    /// The name of what that EXECUTE runs.
    pub(super) executes: Option<Span>,
    /// What old servers read in another way than new ones, or this reader not for sure.
    pub(super) unsure: bool,
    /// What no server takes: a token that is none, a bracket too few or too many.
    pub(super) broken: bool,
}

/// Reads up to the semicolon or the end of the text. In a `routine`, semicolons of its BEGIN ATOMIC body don't count.
pub(super) fn walk(reader: &mut Reader<'_>, routine: bool) -> Found {
    let mut walk =
        Walk { found: Found::default(), depth: 0, atomic: Atomic::not(routine), before: None, earlier: None };
    while let Some(word) = reader.peek() {
        if word.kind == Kind::Semicolon && walk.depth == 0 && walk.atomic != Atomic::Within {
            break;
        }
        reader.bump();
        walk.step(word, reader);
    }
    let Walk { mut found, depth, atomic, .. } = walk;
    found.seen.broken |= depth != 0 || atomic == Atomic::Within;
    found
}

/// The body of an SQL function that is written as statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Atomic {
    /// The statement can't have one.
    Never,
    /// It may come.
    Before,
    /// Within it.
    Within,
}

impl Atomic {
    fn not(routine: bool) -> Self {
        if routine { Self::Before } else { Self::Never }
    }
}

struct Walk {
    found: Found,
    depth: usize,
    atomic: Atomic,
    before: Option<Word>,
    /// The one before that.
    earlier: Option<Word>,
}

impl Walk {
    fn step(&mut self, word: Word, reader: &mut Reader<'_>) {
        let mut last = word;
        match word.kind {
            Kind::Word | Kind::QuotedName | Kind::UnicodeName => {
                self.found.seen.unsure |= word.junk;
                if word.keyword.is_some() && !self.was_kind(Kind::Dot) {
                    self.keyword(word, reader);
                }
                last = self.name(word, reader);
            }
            Kind::Open => self.depth += 1,
            Kind::Close if self.depth == 0 => self.found.seen.broken = true,
            Kind::Close => self.depth -= 1,
            // Only rules and bodies of functions have semicolons within.
            Kind::Stray | Kind::Unterminated | Kind::Opaque => self.found.seen.broken = true,
            _ => {}
        }
        self.found.end = last.end;
        self.earlier = self.before;
        self.before = Some(last);
    }

    /// Takes a name with the parts that follow it, and notes what it names. Returns its last token.
    fn name(&mut self, first: Word, reader: &mut Reader<'_>) -> Word {
        let mut last = first;
        while reader.at_kind(Kind::Dot) && reader.second().is_some_and(Word::is_label) {
            reader.bump();
            let Some(part) = reader.bump() else { break };
            last = part;
        }
        let span = Span::new(first.start, last.end);
        let qualified = last.start != first.start;
        if qualified && is_temp_schema(first, reader) {
            self.found.seen.temp_name = true;
        }
        let class = match first.keyword {
            Some(keyword) if !qualified && !self.was_kind(Kind::Dot) => keyword.class(),
            _ => Class::Free,
        };
        let called = reader.peek().filter(|next| next.kind == Kind::Open);
        match (called, class) {
            (Some(open), Class::Free | Class::NoRelation) if !self.is_no_call(first, qualified) => {
                let doubtful = self.is_doubtful(first, qualified);
                self.found.calls.push(Call { name: span, open: Span::new(open.start, open.end).start, doubtful });
                if doubtful {
                    self.found.names.push(span);
                }
            }
            // The word that a statement begins with.
            _ if self.before.is_none() && first.keyword.is_some() => {}
            (_, Class::Free | Class::NoFunction) => self.found.names.push(span),
            _ => {}
        }
        last
    }

    /// Whether a name with a bracket behind it surely calls nothing: the clauses that are seen most often.
    fn is_no_call(&self, word: Word, qualified: bool) -> bool {
        let after = |keywords: &[Keyword]| self.was_any(keywords);
        match word.keyword.filter(|_| !qualified) {
            // ORDER and GROUP are no operands, and no alias stands behind PARTITION BY without a label before it.
            Some(Keyword::By) => after(&[Keyword::Order, Keyword::Group, Keyword::Partition]),
            Some(Keyword::Materialized) => after(&[Keyword::As, Keyword::Not]),
            Some(Keyword::Execute) => false,
            // A column list of INSERT and of an alias, the parameters of a type's name.
            _ => after(&[Keyword::As, Keyword::Into]) || self.was_kind(Kind::Cast),
        }
    }

    /// Whether a name with a bracket behind it may be something else than a call.
    fn is_doubtful(&self, word: Word, qualified: bool) -> bool {
        let grammars_own = !qualified && word.keyword.is_some_and(|keyword| keyword.class() == Class::Free);
        let behind_operand = self.before.is_some_and(|before| {
            let a_name = before.is_label() && before.keyword.is_none();
            a_name || matches!(before.kind, Kind::Close | Kind::CloseBracket | Kind::Text(_))
        });
        grammars_own || behind_operand || word.is(Keyword::Join)
    }

    fn keyword(&mut self, word: Word, reader: &Reader<'_>) {
        let next = |keywords: &[Keyword]| reader.at_any(keywords);
        match word.keyword {
            Some(Keyword::Into) => self.into(reader),
            Some(Keyword::Insert | Keyword::Merge) => self.writes(next(&[Keyword::Into])),
            Some(Keyword::Delete) => self.writes(next(&[Keyword::From])),
            Some(Keyword::Update) => self.writes(reader.peek().is_some_and(|next| next.is_label())),
            Some(Keyword::For) => {
                let lock = [Keyword::Update, Keyword::Share, Keyword::No, Keyword::Key];
                self.found.seen.locks |= next(&lock);
            }
            Some(Keyword::Concurrently) => self.found.seen.concurrently = true,
            Some(Keyword::Commit) => {
                self.found.seen.drop_on_commit |= self.was_any(&[Keyword::On]) && next(&[Keyword::Drop]);
            }
            Some(Keyword::Tablespace) => self.found.seen.set_tablespace |= self.was_any(&[Keyword::Set]),
            Some(Keyword::As) => {
                let query = [Keyword::Select, Keyword::With, Keyword::Values, Keyword::Table, Keyword::Execute];
                self.found.seen.as_query |= self.depth == 0 && (next(&query) || reader.at_kind(Kind::Open));
                if self.depth == 0 && next(&[Keyword::Execute]) {
                    self.found.seen.executes = reader.second().map(|name| name.span());
                }
            }
            Some(Keyword::Atomic)
                if self.atomic == Atomic::Before && self.depth == 0 && self.was_any(&[Keyword::Begin]) =>
            {
                self.atomic = Atomic::Within;
            }
            // Every statement of the body ends with a semicolon, so the END of a CASE never stands behind one.
            Some(Keyword::End) if self.atomic == Atomic::Within && self.depth == 0 => {
                let empty =
                    self.was_any(&[Keyword::Atomic]) && self.earlier.is_some_and(|earlier| earlier.is(Keyword::Begin));
                if empty || self.was_kind(Kind::Semicolon) {
                    self.atomic = Atomic::Never;
                }
            }
            // A function within a function could have a body of its own.
            Some(Keyword::Create) if self.atomic == Atomic::Within => self.found.seen.unsure = true,
            _ => {}
        }
    }

    /// INTO: not a label, and not the one of INSERT or MERGE.
    fn into(&mut self, reader: &Reader<'_>) {
        // INSERT behind a closing bracket may be that of a WITH, but also an alias: `SELECT f(1) insert INTO t`.
        let inserts = self.was_any(&[Keyword::Insert, Keyword::Merge])
            && self.earlier.is_none_or(|earlier| earlier.kind == Kind::Open);
        if inserts || self.was_any(&[Keyword::As]) {
            return;
        }
        self.found.seen.into = true;
        let scope = reader.at_any(&[Keyword::Local, Keyword::Global]);
        let temp = if scope { reader.second() } else { reader.peek() };
        self.found.seen.into_temp |= temp.is_some_and(|word| word.is(Keyword::Temp) || word.is(Keyword::Temporary));
    }

    /// A statement that writes may stand behind a bracket: `AS (INSERT …)`, `WITH a AS (…) DELETE …`.
    fn writes(&mut self, fits: bool) {
        self.found.seen.writes |= fits && (self.was_kind(Kind::Open) || self.was_kind(Kind::Close) || self.in_clause());
    }

    /// Behind the last word of a CTE's SEARCH or CYCLE clause: `SET ordercol`, `USING path`.
    fn in_clause(&self) -> bool {
        self.earlier.is_some_and(|earlier| earlier.is(Keyword::Set) || earlier.is(Keyword::Using))
    }

    fn was_kind(&self, kind: Kind) -> bool {
        self.before.is_some_and(|before| before.kind == kind)
    }

    fn was_any(&self, keywords: &[Keyword]) -> bool {
        self.before.and_then(|before| before.keyword).is_some_and(|keyword| keywords.contains(&keyword))
    }
}

fn is_temp_schema(schema: Word, reader: &Reader<'_>) -> bool {
    let raw = reader.source.raw(schema.span());
    let name = match schema.kind {
        Kind::QuotedName => &raw[1..raw.len() - 1],
        Kind::UnicodeName => return true,
        _ => raw,
    };
    name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"pg_temp"))
}
