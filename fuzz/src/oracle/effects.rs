//! What a tree holds that the statement must own up to: calls, relations, writes, locks.

use pglifeguard::sql::{Effects, Kind, Source, Span, Statement};

/// How many calls and relations the tree has, and what is in it and not among what we found.
pub(super) fn missed(
    node: &pg_query::NodeEnum,
    ours: &Statement,
    source: Source<'_>,
) -> (usize, Vec<(&'static str, String)>) {
    let tree = format!("{node:?}");
    let mut missed = Vec::new();
    let mut looked_for = 0;
    let calls: Vec<_> = ours.calls.iter().filter_map(|call| last(source, call.name)).collect();
    for name in called(&tree) {
        looked_for += 1;
        if !calls.contains(&name) {
            missed.push(("call", name));
        }
    }
    let mut names: Vec<String> = Vec::new();
    for name in &ours.names {
        names.extend(source.parts(*name).0.iter().map(|part| String::from_utf8_lossy(part).into_owned()));
    }
    for name in relations(&tree) {
        looked_for += 1;
        // The names in DDL look like calls where columns follow.
        if !names.contains(&name) && !calls.contains(&name) {
            missed.push(("name", name));
        }
    }
    let data = matches!(ours.kind, Kind::Query | Kind::SelectInto(_));
    let writes = ["InsertStmt(", "UpdateStmt(", "DeleteStmt(", "MergeStmt(", "into_clause: Some("];
    if data && !ours.effects.has(Effects::WRITES) && writes.iter().any(|write| tree.contains(write)) {
        missed.push(("writes", String::new()));
    }
    if data && !ours.effects.has(Effects::LOCKS) && tree.contains("LockingClause(") {
        missed.push(("locks", String::new()));
    }
    (looked_for, missed)
}

/// Whether INTO stands anywhere in the tree.
pub(super) fn has_into(node: &pg_query::NodeEnum) -> bool {
    format!("{node:?}").contains("into_clause: Some(")
}

fn last(source: Source<'_>, name: Span) -> Option<String> {
    source.last_part(name).map(|part| String::from_utf8_lossy(&part).into_owned())
}

/// Names of functions that are not the system's own for syntax such as EXTRACT.
fn called(tree: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (position, _) in tree.match_indices("FuncCall { funcname: [") {
        let rest = &tree[position..];
        let Some(end) = rest.find("], args") else { continue };
        let parts = strings(&rest[..end]);
        if parts.len() == 2 && parts[0] == "pg_catalog" && is_syntax(&parts[1]) {
            continue;
        }
        names.extend(parts.last().cloned());
    }
    names
}

/// Functions of the system that the grammar calls for words of its own.
fn is_syntax(name: &str) -> bool {
    let own = [
        "extract",
        "overlay",
        "position",
        "substring",
        "btrim",
        "ltrim",
        "rtrim",
        "normalize",
        "is_normalized",
        "timezone",
        "like_escape",
        "similar_to_escape",
        "overlaps",
        "pg_collation_for",
        "xmlexists",
        "system_user",
        "similar_escape",
    ];
    own.contains(&name)
}

fn relations(tree: &str) -> Vec<String> {
    let field = |(position, found): (usize, &str)| strings_from(&tree[position + found.len() - 1..]);
    tree.match_indices("relname: \"").filter_map(field).filter(|name| !name.is_empty()).collect()
}

/// All values of `sval: "…"`.
fn strings(text: &str) -> Vec<String> {
    text.match_indices("sval: \"").filter_map(|(at, found)| strings_from(&text[at + found.len() - 1..])).collect()
}

/// The string that begins here, as Rust writes it for debugging.
fn strings_from(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut chars = text.chars().skip(1);
    loop {
        match chars.next()? {
            '"' => return Some(value),
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                'u' => {
                    let code: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    value.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
                }
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
}
