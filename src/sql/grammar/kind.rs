//! What a statement is, and what its own words say. Names and values are spans of the text: `Source` reads them.

use super::super::source::Span;

/// What a statement is. Where a kind has exact fields, the whole statement was understood, or
/// [`Effects::UNSURE`](super::Effects::UNSURE) says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// SELECT, VALUES, TABLE, with or without WITH and brackets. What else it does is in its effects.
    Query,
    /// SELECT … INTO: creates a table. True for a temporary one by its keyword.
    SelectInto(bool),
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,

    /// BEGIN or START TRANSACTION.
    Begin(Modes),
    /// COMMIT or END. True with AND CHAIN.
    Commit(bool),
    /// ROLLBACK or ABORT. True with AND CHAIN.
    Rollback(bool),
    /// ROLLBACK TO a savepoint.
    RollbackTo(Span),
    /// SAVEPOINT.
    Savepoint(Span),
    /// RELEASE of a savepoint.
    Release(Span),
    /// PREPARE TRANSACTION.
    PrepareTransaction,
    /// COMMIT PREPARED.
    CommitPrepared,
    /// ROLLBACK PREPARED.
    RollbackPrepared,

    /// SET of a setting in any of its forms, SET ROLE and SET SESSION AUTHORIZATION among them.
    Set(Setting),
    /// RESET of one setting.
    Reset(SettingName),
    /// RESET ALL.
    ResetAll,
    /// SET TRANSACTION; true with SNAPSHOT.
    SetTransaction(Modes, bool),
    /// SET SESSION CHARACTERISTICS.
    SetCharacteristics(Modes),
    /// SET CONSTRAINTS.
    SetConstraints,
    /// SHOW of one setting.
    Show(SettingName),
    /// SHOW ALL.
    ShowAll,

    /// PREPARE: the name, and the statement as a text of its own.
    Prepare {
        /// Of the statement.
        name: Span,
        /// What EXECUTE will run.
        body: Span,
    },
    /// EXECUTE of a prepared statement.
    Execute(Span),
    /// DEALLOCATE of one prepared statement.
    Deallocate(Span),
    /// DEALLOCATE ALL.
    DeallocateAll,
    /// DECLARE of a cursor.
    Declare {
        /// Of the cursor.
        name: Span,
        /// WITH HOLD: it outlives its transaction.
        hold: bool,
    },
    /// CLOSE of one cursor.
    Close(Span),
    /// CLOSE ALL.
    CloseAll,
    /// FETCH from a cursor.
    Fetch(Span),
    /// MOVE of a cursor.
    Move(Span),

    /// LISTEN on a channel.
    Listen(Span),
    /// UNLISTEN of one channel.
    Unlisten(Span),
    /// UNLISTEN *.
    UnlistenAll,
    /// NOTIFY: channel, payload.
    Notify(Span, Option<Span>),

    /// DISCARD.
    Discard(Discard),
    /// LOAD of a library.
    Load,
    /// LOCK TABLE.
    Lock,
    /// COPY.
    Copy(Copy),
    /// DO: the code, and the name or string of its language if that is not PL/pgSQL.
    Do {
        /// A string constant.
        body: Span,
        /// A name or string constant.
        language: Option<Span>,
    },
    /// CALL of a procedure, which is among the calls.
    Call,

    /// CREATE.
    Create(Create),
    /// DROP.
    Drop(Object),
    /// ALTER.
    Alter(Object),
    /// TRUNCATE.
    Truncate,
    /// GRANT, REVOKE, COMMENT, SECURITY LABEL, REASSIGN OWNED, DROP OWNED, IMPORT FOREIGN SCHEMA.
    OtherDdl,
    /// REFRESH MATERIALIZED VIEW.
    Refresh,
    /// VACUUM.
    Vacuum,
    /// ANALYZE.
    Analyze,
    /// CLUSTER.
    Cluster,
    /// REINDEX.
    Reindex,
    /// CHECKPOINT.
    Checkpoint,

    /// EXPLAIN of a statement, which runs with ANALYZE.
    Explain {
        /// Whether it runs.
        analyze: bool,
        /// What is explained.
        inner: Box<Self>,
    },
    /// None of those; only the server knows.
    Unknown,
}

/// Modes of a transaction, as far as they are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modes {
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
    /// READ ONLY is true, READ WRITE false.
    pub read_only: Option<bool>,
    /// DEFERRABLE is true, NOT DEFERRABLE false.
    pub deferrable: Option<bool>,
}

/// Levels of isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// SERIALIZABLE
    Serializable,
    /// REPEATABLE READ
    RepeatableRead,
    /// READ COMMITTED
    ReadCommitted,
    /// READ UNCOMMITTED
    ReadUncommitted,
}

/// An assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Of what.
    pub name: SettingName,
    /// SET LOCAL: until the end of the transaction.
    pub local: bool,
    /// What it is set to.
    pub value: Value,
}

/// Which setting; forms with syntax of their own are told by their words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingName {
    /// As written, with dots in it for a custom one. May be any of those below, written as an ordinary setting.
    Plain(Span),
    /// TIME ZONE
    TimeZone,
    /// NAMES
    ClientEncoding,
    /// SCHEMA
    SearchPath,
    /// ROLE
    Role,
    /// SESSION AUTHORIZATION
    SessionAuthorization,
    /// XML OPTION
    XmlOption,
    /// TRANSACTION ISOLATION LEVEL, of RESET and SHOW
    TransactionIsolation,
}

/// What a setting is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// DEFAULT, TIME ZONE LOCAL, NAMES without a name.
    Default,
    /// FROM CURRENT: what it is now.
    Current,
    /// The list as written, one item or more with commas in between; `Source::items` reads it.
    List(Span),
    /// TIME ZONE INTERVAL '…' HOUR TO MINUTE, as written.
    Interval(Span),
}

/// What DISCARD discards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// ALL
    All,
    /// TEMP
    Temp,
    /// PLANS
    Plans,
    /// SEQUENCES
    Sequences,
}

/// Which way COPY goes, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// COPY … FROM writes a table.
    pub from: bool,
    /// At the other end.
    pub place: CopyPlace,
}

/// The other end of a COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyPlace {
    /// STDIN or STDOUT.
    Client,
    /// A file of the server.
    File,
    /// A program on the server.
    Program,
}

/// What CREATE creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Create {
    /// What kind of thing.
    pub object: Object,
    /// Whether it lives in the session's temporary schema, as far as the statement says; a `search_path` that begins
    /// with `pg_temp`, and a view on temporary tables, do that too.
    pub temp: Temp,
    /// CREATE TABLE … AS, of a query or EXECUTE.
    pub query: bool,
    /// What that EXECUTE runs, by name.
    pub executes: Option<Span>,
}

/// Whether something is temporary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temp {
    /// By its words it isn't.
    No,
    /// It is, and stays until the session ends.
    Session,
    /// It is, with ON COMMIT DROP.
    Transaction,
}

/// What DDL is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// TABLE
    Table,
    /// VIEW
    View,
    /// MATERIALIZED VIEW
    MaterializedView,
    /// SEQUENCE
    Sequence,
    /// INDEX
    Index,
    /// FUNCTION, PROCEDURE, ROUTINE, AGGREGATE
    Routine,
    /// SCHEMA
    Schema,
    /// TYPE or DOMAIN
    Type,
    /// TRIGGER, EVENT TRIGGER, RULE, POLICY
    Trigger,
    /// DATABASE
    Database,
    /// TABLESPACE
    Tablespace,
    /// SUBSCRIPTION
    Subscription,
    /// ROLE, USER, GROUP, USER MAPPING
    Role,
    /// EXTENSION
    Extension,
    /// SYSTEM, of ALTER SYSTEM
    System,
    /// Another.
    Other,
}

impl Object {
    /// Whether its name may be in a schema, which is that of the `search_path` where none is written.
    pub fn is_in_schema(self) -> bool {
        match self {
            Self::Table | Self::View | Self::MaterializedView | Self::Sequence | Self::Routine | Self::Type => true,
            Self::Extension | Self::Other => true,
            // These two are where their table is.
            Self::Index | Self::Trigger => false,
            Self::Schema | Self::Database | Self::Tablespace | Self::Subscription | Self::Role | Self::System => false,
        }
    }
}
