//! PostgreSQL's own scanner and parser (of one version) against ours: the same tokens, the same statements of the same
//! kinds, and nothing in the tree that a statement doesn't own up to.

mod effects;
mod kinds;

use pg_query::protobuf::Token as Theirs;
use pglifeguard::sql::lexer::{Kind, Lexer, Quote};
use pglifeguard::sql::{Dialect, Effects, Script, Source, Statement};

/// What became of one text.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What differs: a word for the sort of difference, and the details.
    pub complaints: Vec<(&'static str, String)>,
    /// Whether PostgreSQL's scanner takes it.
    pub scans: bool,
    /// How many statements PostgreSQL's parser sees, if it takes the text.
    pub statements: Option<usize>,
    /// Statements that we are not sure of.
    pub unsure: usize,
    /// Calls and relations of trees that were looked for among ours.
    pub looked_for: usize,
}

/// Compares all that can be compared.
pub fn judge(text: &str) -> Verdict {
    let mut verdict = Verdict::default();
    tokens(text, &mut verdict);
    tree(text, &mut verdict);
    verdict
}

fn tokens(text: &str, verdict: &mut Verdict) {
    let Ok(scan) = pg_query::scan(text) else { return };
    verdict.scans = true;
    let ours: Vec<_> =
        Lexer::new(text.as_bytes(), Dialect::default()).filter(|token| token.kind != Kind::Blank).collect();
    let mut ours = ours.into_iter();
    for theirs in &scan.tokens {
        let (start, end) = (at(theirs.start), at(theirs.end));
        let fits = |kind| same_kind(theirs.token, kind, &text[start..end]);
        match ours.next() {
            Some(token) if (token.start, token.end) == (start, end) && fits(token.kind) => {}
            other => {
                verdict
                    .complaints
                    .push(("token", format!("{:?} is {:?}, not {other:?}", &text[start..end], theirs.token)));
                return;
            }
        }
    }
    if let Some(more) = ours.next() {
        verdict.complaints.push(("token", format!("{more:?} is one too many")));
    }
}

fn at(position: i32) -> usize {
    usize::try_from(position).expect("a position")
}

fn same_kind(theirs: i32, ours: Kind, text: &str) -> bool {
    match Theirs::try_from(theirs) {
        Ok(Theirs::Ident) => matches!(ours, Kind::Word | Kind::QuotedName),
        Ok(Theirs::Uident) => ours == Kind::UnicodeName,
        Ok(Theirs::Fconst) => matches!(ours, Kind::Decimal | Kind::Integer),
        Ok(Theirs::Sconst) => matches!(ours, Kind::Text(Quote::Plain | Quote::Escapes | Quote::Dollar)),
        Ok(Theirs::Usconst) => ours == Kind::Text(Quote::Unicode),
        Ok(Theirs::Bconst | Theirs::Xconst) => ours == Kind::Bits,
        Ok(Theirs::Op | Theirs::LessEquals | Theirs::GreaterEquals | Theirs::NotEquals) => ours == Kind::Operator,
        Ok(Theirs::Iconst) => ours == Kind::Integer,
        Ok(Theirs::Param) => ours == Kind::Param,
        Ok(Theirs::Typecast) => ours == Kind::Cast,
        Ok(Theirs::DotDot) => ours == Kind::DotDot,
        Ok(Theirs::ColonEquals) => ours == Kind::Assign,
        Ok(Theirs::EqualsGreater) => ours == Kind::Arrow,
        Ok(Theirs::SqlComment | Theirs::CComment) => ours == Kind::Comment,
        _ if theirs > 276 => ours == Kind::Word,
        _ => match text {
            "(" => ours == Kind::Open,
            ")" => ours == Kind::Close,
            "[" => ours == Kind::OpenBracket,
            "]" => ours == Kind::CloseBracket,
            "," => ours == Kind::Comma,
            ";" => ours == Kind::Semicolon,
            "." => ours == Kind::Dot,
            ":" => ours == Kind::Colon,
            // What isn't in any rule is a token for PostgreSQL's scanner, and an error for its parser.
            _ => {
                ours == if text.chars().all(|c| "~!@#^&|`?+-*/%<>=".contains(c)) { Kind::Operator } else { Kind::Stray }
            }
        },
    }
}

fn tree(text: &str, verdict: &mut Verdict) {
    let Ok(parsed) = pg_query::parse(text, 0) else { return };
    let theirs = parsed.protobuf.stmts;
    let script = Script::of(text.as_bytes(), Dialect::default());
    let source = Source::new(text.as_bytes(), Dialect::default());
    verdict.statements = Some(theirs.len());
    verdict.unsure = script.statements.iter().filter(|ours| ours.effects.has(Effects::UNSURE)).count();
    if script.broken || script.statements.len() != theirs.len() {
        let what = format!("{} statements, not {}; broken: {}", theirs.len(), script.statements.len(), script.broken);
        verdict.complaints.push(("split", what));
        return;
    }
    for (theirs, ours) in theirs.iter().zip(&script.statements) {
        let begin = at(theirs.stmt_location);
        let end = if theirs.stmt_len == 0 { text.len() } else { begin + at(theirs.stmt_len) };
        if begin > ours.span.start as usize || end < ours.span.end as usize {
            verdict.complaints.push(("split", format!("{begin}..{end}, not {:?}", ours.span)));
        }
        if let Some(node) = theirs.stmt.as_ref().and_then(|node| node.node.as_ref()) {
            compare(node, ours, source, verdict);
        }
    }
}

fn compare(node: &pg_query::NodeEnum, ours: &Statement, source: Source<'_>, verdict: &mut Verdict) {
    // Whoever isn't sure promises nothing.
    if ours.effects.has(Effects::UNSURE) {
        return;
    }
    if let Some(expected) = kinds::of(node) {
        let found = kinds::ours(&ours.kind, source);
        // PostgreSQL's analysis, not its parser, refuses INTO within a query; we count it wherever it stands.
        let inner_into = (expected.as_str(), found.as_str()) == ("query", "select into") && effects::has_into(node);
        // A type in that schema, for one, makes us take the table for temporary.
        let temporary = expected.ends_with(" lasting") && ours.effects.has(Effects::TEMPORARY);
        if expected != found && !inner_into && !temporary {
            verdict.complaints.push(("kind", format!("{expected}, not {found}")));
        }
    }
    let (looked_for, missed) = effects::missed(node, ours, source);
    verdict.looked_for += looked_for;
    verdict.complaints.extend(missed);
}
