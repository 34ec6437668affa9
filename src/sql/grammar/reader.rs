//! Walks over the tokens that count: no blanks, no comments, a UESCAPE clause as part of its constant.

use super::super::keywords::{Class, Keyword, keyword};
use super::super::lexer::{Kind, Lexer, Quote, Token};
use super::super::source::{Source, Span, is_uescape};

/// A token that counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Of an unquoted word that the grammar knows.
    pub(super) keyword: Option<Keyword>,
    /// Whether it stands right behind a number or parameter, where only old servers take a word.
    pub(super) junk: bool,
}

impl Word {
    pub(super) fn span(self) -> Span {
        Span::new(self.start, self.end)
    }

    pub(super) fn is(self, keyword: Keyword) -> bool {
        self.keyword == Some(keyword)
    }

    /// Whether it may be a part of a name that is not the first.
    pub(super) fn is_label(self) -> bool {
        matches!(self.kind, Kind::Word | Kind::QuotedName | Kind::UnicodeName)
    }

    /// Whether it may be the name of something by itself (`ColId`).
    pub(super) fn is_name(self) -> bool {
        let class = self.keyword.map(Keyword::class);
        self.is_label() && !matches!(class, Some(Class::Reserved | Class::NoRelation))
    }
}

/// Reads one token ahead; clone it to look further.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    pub(super) source: Source<'a>,
    lexer: Lexer<'a>,
    next: Option<Word>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: Source<'a>) -> Self {
        let lexer = Lexer::new(source.text, source.dialect);
        let mut reader = Self { source, lexer, next: None };
        reader.next = reader.read(None);
        reader
    }

    pub(super) fn peek(&self) -> Option<Word> {
        self.next
    }

    /// The token behind the next.
    pub(super) fn second(&self) -> Option<Word> {
        let mut ahead = self.clone();
        ahead.bump();
        ahead.next
    }

    pub(super) fn bump(&mut self) -> Option<Word> {
        let taken = self.next;
        self.next = self.read(taken);
        taken
    }

    /// Whether the statement ends here.
    pub(super) fn ends(&self) -> bool {
        self.next.is_none_or(|word| word.kind == Kind::Semicolon)
    }

    pub(super) fn at(&self, keyword: Keyword) -> bool {
        self.next.is_some_and(|word| word.is(keyword))
    }

    pub(super) fn at_any(&self, keywords: &[Keyword]) -> bool {
        self.next.and_then(|word| word.keyword).is_some_and(|keyword| keywords.contains(&keyword))
    }

    pub(super) fn at_kind(&self, kind: Kind) -> bool {
        self.next.is_some_and(|word| word.kind == kind)
    }

    pub(super) fn eat(&mut self, keyword: Keyword) -> bool {
        let found = self.at(keyword);
        if found {
            self.bump();
        }
        found
    }

    /// All of these in a row, or nothing.
    pub(super) fn eat_all(&mut self, keywords: &[Keyword]) -> bool {
        let mut ahead = self.clone();
        let found = keywords.iter().all(|keyword| ahead.eat(*keyword));
        if found {
            *self = ahead;
        }
        found
    }

    pub(super) fn eat_kind(&mut self, kind: Kind) -> bool {
        let found = self.at_kind(kind);
        if found {
            self.bump();
        }
        found
    }

    /// A name without dots.
    pub(super) fn name(&mut self) -> Option<Span> {
        self.next.filter(|word| word.is_name())?;
        self.bump().map(Word::span)
    }

    /// A name that may have dots in it.
    pub(super) fn dotted(&mut self) -> Option<Span> {
        let mut span = self.name()?;
        while self.at_kind(Kind::Dot) && self.second().is_some_and(Word::is_label) {
            self.bump();
            span = span.to(self.bump()?.span());
        }
        Some(span)
    }

    /// A string constant.
    pub(super) fn string(&mut self) -> Option<Span> {
        self.next.filter(|word| matches!(word.kind, Kind::Text(_)))?;
        self.bump().map(Word::span)
    }

    /// Behind the bracket that closes the one that is next; false if none does.
    pub(super) fn skip_parens(&mut self) -> bool {
        let mut depth = 0_usize;
        while !(depth == 0 && self.ends()) {
            match self.bump().map(|word| word.kind) {
                Some(Kind::Open) => depth += 1,
                Some(Kind::Close) if depth <= 1 => return depth == 1,
                Some(Kind::Close) => depth -= 1,
                Some(_) if depth == 0 => return false,
                Some(_) => {}
                None => return false,
            }
        }
        false
    }

    fn read(&mut self, before: Option<Word>) -> Option<Word> {
        let token = self.token()?;
        let mut word = Word { kind: token.kind, start: token.start, end: token.end, keyword: None, junk: false };
        match token.kind {
            Kind::Word => {
                word.keyword = keyword(&self.source.text[token.start..token.end]);
                word.junk = before.is_some_and(|before| {
                    before.end == token.start && matches!(before.kind, Kind::Integer | Kind::Decimal | Kind::Param)
                });
            }
            Kind::UnicodeName | Kind::Text(Quote::Unicode) => word.end = self.behind_uescape(token.end),
            _ => {}
        }
        Some(word)
    }

    fn token(&mut self) -> Option<Token> {
        self.lexer.find(|token| !matches!(token.kind, Kind::Blank | Kind::Comment))
    }

    /// The end of the UESCAPE clause that follows, or `end`.
    fn behind_uescape(&mut self, end: usize) -> usize {
        let before = self.lexer.clone();
        let clause = self.token().filter(|token| is_uescape(*token, self.source.text)).and_then(|_| self.token());
        match clause {
            // In whatever quotes.
            Some(token) if matches!(token.kind, Kind::Text(_)) => token.end,
            _ => {
                self.lexer = before;
                end
            }
        }
    }
}
