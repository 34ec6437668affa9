//! Texts of queries: tokens tile them, statements stand in order and say the same by themselves as among others, and
//! whatever is named in them can be read.

use pglifeguard::sql::lexer::{Kind as Token, Lexer};
use pglifeguard::sql::{Cache, Dialect, Encoding, Kind, Script, Source, Statement};

use super::input::Input;

/// A byte that says how to read the text, and the text.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.byte();
    let encoding = [Encoding::Utf8, Encoding::AsciiSafe, Encoding::Hiding][usize::from(choice >> 1) % 3];
    let dialect = Dialect { standard_conforming_strings: choice & 1 == 0, encoding };
    let source = Source::new(input.0, dialect);
    tokens(source);
    let script = Script::of(source.text, dialect);
    let mut behind = 0;
    for statement in &script.statements {
        assert!(statement.span.start >= behind && statement.span.end > statement.span.start);
        behind = statement.span.end;
        read(statement, source);
        if !script.broken {
            by_itself(statement, source);
        }
    }
    let cache = Cache::new(1 << 16, 4096);
    for _ in 0..3 {
        assert_eq!(*cache.read(source.text, dialect), script);
    }
}

fn tokens(source: Source<'_>) {
    let mut tiled = 0;
    for token in Lexer::new(source.text, source.dialect) {
        assert!(token.start == tiled && token.end > tiled);
        tiled = token.end;
        let to_the_end = matches!(token.kind, Token::Unterminated | Token::Opaque);
        assert!(!to_the_end || tiled == source.text.len());
    }
    assert_eq!(tiled, source.text.len());
}

fn read(statement: &Statement, source: Source<'_>) {
    for call in &statement.calls {
        assert_eq!(source.text[call.open as usize], b'(');
        assert!(!source.parts(call.name).0.is_empty() || !source.parts(call.name).1);
        call.arguments(source);
    }
    for name in &statement.names {
        let (parts, whole) = source.parts(*name);
        assert!(parts.iter().all(|part| part.len() < 64));
        assert_eq!(source.last_part(*name), parts.last().filter(|_| whole).cloned());
    }
    match &statement.kind {
        Kind::Set(set) => drop((set.name.name(source), set.value.items(source))),
        Kind::Reset(name) | Kind::Show(name) => drop(name.name(source)),
        Kind::Do { body, .. } => drop(source.string(*body)),
        Kind::Notify(_, Some(payload)) => drop(source.string(*payload)),
        Kind::Prepare { body, .. } => drop(Script::of(source.raw(*body), source.dialect)),
        _ => {}
    }
}

fn by_itself(statement: &Statement, source: Source<'_>) {
    let alone = Script::of(source.raw(statement.span), source.dialect);
    let alone = alone.single().expect("one statement is one statement");
    assert_eq!(alone.effects, statement.effects);
    assert_eq!(std::mem::discriminant(&alone.kind), std::mem::discriminant(&statement.kind));
    assert_eq!((alone.calls.len(), alone.names.len()), (statement.calls.len(), statement.names.len()));
}
