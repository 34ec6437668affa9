//! A Rust file as the rules look at it: only code, so that words in comments and strings mean nothing.

/// One file. Positions and lines are the same in all its forms.
pub(super) struct Source {
    /// From the project's root, with `/`.
    pub(super) path: String,
    /// How many lines it has.
    pub(super) lines: usize,
    /// The text with comments and the contents of strings blanked out.
    pub(super) code: String,
    /// The same without `#[cfg(test)]` items; blank for a file of tests.
    pub(super) product: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code = mask(text);
        let of_tests = path.ends_with("/tests.rs") || path.contains("/tests/") || !path.starts_with("src/");
        let product = if of_tests { blank(&code) } else { without_tests(&code) };
        Self { path: path.to_owned(), lines: text.lines().count(), code, product }
    }

    /// `path:line` of a position in the code.
    pub(super) fn place(&self, position: usize) -> String {
        format!("{}:{}", self.path, line(&self.code, position))
    }
}

/// The number of the line in which a position lies.
pub(super) fn line(text: &str, position: usize) -> usize {
    text[..position].matches('\n').count() + 1
}

/// Whether a character may stand in a name.
pub(super) fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The position behind the bracket that closes the one at `open`, or the end of an unbalanced text.
pub(super) fn end_of_block(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return open + at + 1;
                }
            }
            _ => (),
        }
    }
    code.len()
}

/// Spaces for everything but line ends; as many bytes as before.
fn blank(text: &str) -> String {
    text.chars().flat_map(|c| std::iter::repeat_n(if c == '\n' { '\n' } else { ' ' }, c.len_utf8())).collect()
}

fn mask(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    while code.len() < text.len() {
        let rest = &text[code.len()..];
        let length = opaque_length(rest, code.chars().next_back());
        if length > 0 {
            code += &blank(&rest[..length]);
        } else {
            code.extend(rest.chars().next());
        }
    }
    code
}

/// How many bytes at the beginning are a comment, a string or a character; 0 if they are code.
fn opaque_length(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return comment_length(rest);
    }
    if rest.starts_with('"') {
        return string_length(rest);
    }
    if rest.starts_with('\'') {
        return character_length(rest);
    }
    // r"…", br#"…"#, but not the end of a longer name and not r#name.
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c']).trim_start_matches('r').len();
    if before.is_some_and(is_name) || !rest[..prefix].ends_with('r') {
        return 0;
    }
    let hashes = rest[prefix..].len() - rest[prefix..].trim_start_matches('#').len();
    let open = prefix + hashes;
    if !rest[open..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    rest[open + 1..].find(&close).map_or(rest.len(), |at| open + 1 + at + close.len())
}

/// Comments of this kind nest.
fn comment_length(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => (),
        }
    }
    rest.len()
}

/// 0 for a lifetime.
fn character_length(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        // The escaped character itself may be a quote.
        Some((_, '\\')) => rest[3..].find('\'').map_or(rest.len(), |at| 3 + at + 1),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

fn without_tests(code: &str) -> String {
    let mut product = String::with_capacity(code.len());
    while let Some(found) = code[product.len()..].find(CFG_TEST) {
        let begin = product.len() + found;
        product += &code[product.len()..begin];
        let item = begin + CFG_TEST.len();
        let end = match code[item..].find(['{', ';']).map(|at| item + at) {
            Some(at) if code[at..].starts_with('{') => end_of_block(code, at),
            Some(at) => at + 1,
            None => code.len(),
        };
        product += &blank(&code[begin..end]);
    }
    product += &code[product.len()..];
    product
}

const CFG_TEST: &str = "#[cfg(test)]";

#[test]
fn comments_strings_and_characters_are_no_code() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("a \" b", c)"#, "f(        , c)"),
        (r##"f(r#"a " b"#, r"\", c)"##, "f(          ,     , c)"),
        (r#"f(b"a", br"b", cr"c")"#, "f(b   ,      ,      )"),
        (r"f('a', '\'', '\n', 'ä')", "f(   ,     ,     ,     )"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("for r in bar {}", "for r in bar {}"),
        ("r#type.x", "r#type.x"),
        ("'label: loop { '{' }", "'label: loop {     }"),
    ] {
        assert_eq!(mask(text), code, "{text}");
        assert_eq!(mask(text).len(), text.len(), "{text}");
    }
}

#[test]
fn test_items_are_no_product() {
    let text =
        "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { c() }\n}\nfn d() {}\n#[cfg(test)]\nmod more;\nfn e() {}";
    let source = Source::new("src/x.rs", text);
    let words: Vec<_> = source.product.split_whitespace().collect();
    assert_eq!(words.join(" "), "fn a() {} fn d() {} fn e() {}");
    assert_eq!(source.place(source.product.find("fn e").expect("it is there")), "src/x.rs:9");
    for path in ["src/x/tests.rs", "src/x/tests/more.rs", "tests/it/x.rs", "benches/x.rs"] {
        assert_eq!(Source::new(path, text).product.trim(), "", "{path}");
    }
}
