//! Words that the grammar knows, and which of them can't be names. A word that isn't here is a name.

/// Declares the words with what PostgreSQL lets them be.
macro_rules! keywords {
    ($($class:ident: $($name:ident = $text:literal),+;)+) => {
        /// A word that the grammar knows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Keyword { $($($name,)+)+ }

        const ALL: &[(&str, Keyword, Class)] = &[$($(($text, Keyword::$name, Class::$class),)+)+];
    };
}

/// What a keyword may be when it stands without quotes and not behind a dot. Versions 13 to 18 agree on these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Neither the name of a relation nor of a function.
    Reserved,
    /// The name of a relation, never of a function: what looks like its call is syntax.
    NoFunction,
    /// The name of a function, never of a relation.
    NoRelation,
    /// The name of anything.
    Free,
}

keywords! {
    Reserved:
        All = "all", Analyse = "analyse", Analyze = "analyze", And = "and", Any = "any", Array = "array", As = "as",
        Asc = "asc", Asymmetric = "asymmetric", Both = "both", Case = "case", CastWord = "cast", Check = "check",
        Collate = "collate", Column = "column", Constraint = "constraint", Create = "create",
        CurrentCatalog = "current_catalog", CurrentDate = "current_date", CurrentRole = "current_role",
        CurrentTime = "current_time", CurrentTimestamp = "current_timestamp", CurrentUser = "current_user",
        Default = "default", Deferrable = "deferrable", Desc = "desc", Distinct = "distinct", Do = "do", Else = "else",
        End = "end", Except = "except", False = "false", Fetch = "fetch", For = "for", Foreign = "foreign",
        From = "from", Grant = "grant", Group = "group", Having = "having", In = "in", Initially = "initially",
        Intersect = "intersect", Into = "into", Lateral = "lateral", Leading = "leading", Limit = "limit",
        Localtime = "localtime", Localtimestamp = "localtimestamp", Not = "not", Null = "null", Offset = "offset",
        On = "on", Only = "only", Or = "or", Order = "order", Placing = "placing", Primary = "primary",
        References = "references", Returning = "returning", Select = "select", SessionUser = "session_user",
        Some = "some", Symmetric = "symmetric", Table = "table", Then = "then", To = "to", Trailing = "trailing",
        True = "true", Union = "union", Unique = "unique", User = "user", Using = "using", Variadic = "variadic",
        When = "when", Where = "where", Window = "window", With = "with";
    NoFunction:
        Between = "between", Bigint = "bigint", Bit = "bit", Boolean = "boolean", Char = "char",
        Character = "character", Coalesce = "coalesce", Dec = "dec", DecimalType = "decimal", Exists = "exists",
        Extract = "extract", Float = "float", Greatest = "greatest", Grouping = "grouping", Inout = "inout",
        Int = "int", IntegerType = "integer", Interval = "interval", Least = "least", National = "national",
        Nchar = "nchar", None = "none", Normalize = "normalize", Nullif = "nullif", Numeric = "numeric", Out = "out",
        Position = "position", Precision = "precision", Real = "real", Row = "row", Setof = "setof",
        Smallint = "smallint", Time = "time", Timestamp = "timestamp", Treat = "treat", Trim = "trim",
        Values = "values", Varchar = "varchar", Xmlattributes = "xmlattributes", Xmlconcat = "xmlconcat",
        Xmlelement = "xmlelement", Xmlexists = "xmlexists", Xmlforest = "xmlforest",
        Xmlnamespaces = "xmlnamespaces", Xmlparse = "xmlparse", Xmlpi = "xmlpi", Xmlroot = "xmlroot",
        Xmlserialize = "xmlserialize", Xmltable = "xmltable";
    NoRelation:
        Authorization = "authorization", Binary = "binary", Collation = "collation", Concurrently = "concurrently", Cross = "cross",
        CurrentSchema = "current_schema", Full = "full", Inner = "inner", Is = "is", Join = "join", Left = "left",
        Natural = "natural", Outer = "outer", Right = "right", Verbose = "verbose";
    Free:
        Abort = "abort", Absolute = "absolute", Access = "access", Add = "add", Aggregate = "aggregate",
        Alter = "alter", Asensitive = "asensitive", Atomic = "atomic", Attach = "attach", Backward = "backward",
        Begin = "begin", By = "by", Call = "call", Chain = "chain", Characteristics = "characteristics",
        Checkpoint = "checkpoint", Close = "close", Cluster = "cluster", Comment = "comment", Commit = "commit",
        Committed = "committed", Conflict = "conflict", Constraints = "constraints", Content = "content",
        Continue = "continue", Conversion = "conversion", Copy = "copy", Current = "current", Cursor = "cursor", Cycle = "cycle",
        Database = "database", Deallocate = "deallocate", Declare = "declare", Deferred = "deferred",
        Delete = "delete", Depth = "depth", Detach = "detach", Discard = "discard", Document = "document",
        Domain = "domain", Drop = "drop", Event = "event", Execute = "execute", Explain = "explain",
        Extension = "extension", Finalize = "finalize", First = "first", Format = "format", Forward = "forward",
        Function = "function", Generic = "generic_plan", Global = "global", Hold = "hold", If = "if",
        Immediate = "immediate", Import = "import", Index = "index", Insensitive = "insensitive",
        Insert = "insert", Isolation = "isolation", Key = "key", Language = "language", Last = "last",
        Level = "level", Listen = "listen", Load = "load", Local = "local", Lock = "lock", Mapping = "mapping",
        Materialized = "materialized", Merge = "merge", Move = "move", Names = "names", Next = "next", No = "no",
        Notify = "notify", Off = "off", Operator = "operator", Option = "option", Over = "over", Partition = "partition", Plans = "plans",
        Policy = "policy", Prepare = "prepare", Prepared = "prepared", Preserve = "preserve", Prior = "prior",
        Procedural = "procedural", Procedure = "procedure", Program = "program", Publication = "publication",
        Read = "read", Reassign = "reassign", Recursive = "recursive", Refresh = "refresh", Reindex = "reindex",
        Relative = "relative", Release = "release", Repeatable = "repeatable", Replace = "replace", Reset = "reset",
        Revoke = "revoke", Role = "role", Rollback = "rollback", Routine = "routine", Rows = "rows", Rule = "rule",
        Savepoint = "savepoint", Schema = "schema", Scroll = "scroll", Search = "search", Security = "security",
        Sequence = "sequence", Sequences = "sequences", Serializable = "serializable", Server = "server",
        Session = "session", Set = "set", Share = "share", Show = "show", Snapshot = "snapshot", Start = "start",
        Statistics = "statistics", Stdin = "stdin", Stdout = "stdout", Subscription = "subscription",
        System = "system", Tablespace = "tablespace", Temp = "temp", Temporary = "temporary", Text = "text",
        Transaction = "transaction", Transform = "transform", Trigger = "trigger", Truncate = "truncate",
        Trusted = "trusted", Type = "type", Uncommitted = "uncommitted", Unlisten = "unlisten",
        Unlogged = "unlogged", Update = "update", Vacuum = "vacuum", View = "view", Without = "without",
        Work = "work", Write = "write", Wrapper = "wrapper", Xml = "xml", Zone = "zone";
}

/// The keyword that `word` is, in any case.
pub(super) fn keyword(word: &[u8]) -> Option<Keyword> {
    if word.len() > LONGEST {
        return None;
    }
    let mut slot = slot(word);
    loop {
        let (text, keyword, _) = ALL[usize::from(TABLE[slot].checked_sub(1)?)];
        if text.as_bytes().eq_ignore_ascii_case(word) {
            return Some(keyword);
        }
        slot = (slot + 1) % SLOTS;
    }
}

impl Keyword {
    /// What it may be the name of.
    pub(super) fn class(self) -> Class {
        ALL[self as usize].2
    }
}

const LONGEST: usize = 17;
const SLOTS: usize = 1024;

/// Positions in [`ALL`] plus one by slot; 0 is an empty slot. Open addressing, a quarter full.
static TABLE: [u16; SLOTS] = table();

const fn table() -> [u16; SLOTS] {
    let mut table = [0_u16; SLOTS];
    let mut at = 0;
    while at < ALL.len() {
        let mut slot = slot(ALL[at].0.as_bytes());
        while table[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = at as u16 + 1;
        at += 1;
    }
    table
}

/// Where the search for a word begins. Setting the bit that makes letters small maps no two letters onto one.
const fn slot(word: &[u8]) -> usize {
    let mut hash = word.len() as u32;
    let mut at = 0;
    while at < word.len() {
        hash = (hash ^ (word[at] | 0x20) as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 15)) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keyword_is_found_in_any_case_and_stands_at_its_number() {
        for (at, (text, keyword, _)) in ALL.iter().enumerate() {
            assert!(text.len() <= LONGEST && *text == text.to_ascii_lowercase(), "{text}");
            assert_eq!(super::keyword(text.as_bytes()), Some(*keyword), "{text}");
            assert_eq!(super::keyword(text.to_ascii_uppercase().as_bytes()), Some(*keyword), "{text}");
            assert_eq!(*keyword as usize, at, "{text}");
        }
    }

    #[test]
    fn other_words_are_none() {
        for word in ["", "selec", "selects", "pgbench_accounts", "a", "current_timestamps", "s\u{17f}elect", "sel\0ct"]
        {
            assert_eq!(keyword(word.as_bytes()), None, "{word}");
        }
    }
}
