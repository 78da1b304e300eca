//! The table: what it must have, and the statements for it.

use std::collections::HashMap;
use std::fmt;

use deadpool_postgres::Object;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::error::Failure;
use crate::rows::layout::{Column, Kind, Layout, Per};
use crate::rows::sql::{names, on_conflict, quoted};

pub struct Table {
    schema: Option<String>,
    name: String,
}

/// For people; statements take [`Table::quoted`].
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Types of the table's columns, as SQL writes them, by name.
pub type Types = HashMap<String, String>;

impl Table {
    pub fn new(schema: Option<String>, name: String) -> Self {
        Self { schema, name }
    }

    fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.name)),
            None => quoted(&self.name),
        }
    }

    /// Creates the table or the columns that it lacks, if that is allowed, and says what is
    /// missing if not.
    pub async fn prepare(
        &self,
        client: &Object,
        layout: &Layout,
        manage: bool,
    ) -> Result<Types, Failure> {
        let mut types = self.types(client).await?;
        if types.is_empty() {
            if !manage {
                return Err(Failure::NoTable);
            }
            self.create(client, layout.per).await?;
            types = self.types(client).await?;
        }
        if !self.has_key(client, layout.key()).await? {
            return Err(Failure::NoKey(layout.key().join(", ")));
        }
        let missing = layout.missing(|name| types.contains_key(name));
        if missing.is_empty() {
            return Ok(types);
        }
        if !manage {
            let missing: Vec<String> = missing.iter().map(|column| definition(column)).collect();
            return Err(Failure::NoColumns(missing));
        }
        self.add(client, &missing).await?;
        self.types(client).await
    }

    async fn types(&self, client: &Object) -> Result<Types, Failure> {
        let query = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
                     WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        let rows = client
            .query_typed(query, &[(&self.quoted(), Type::TEXT)])
            .await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Whether ON CONFLICT can name the key: a unique index on just these columns, valid, not
    /// deferred, not partial and not of expressions.
    async fn has_key(&self, client: &Object, key: &[&str]) -> Result<bool, Failure> {
        let query = "SELECT array_agg(a.attname::text ORDER BY a.attname::text) FROM pg_index i \
                     JOIN pg_attribute a ON a.attrelid = i.indrelid \
                       AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]) \
                     WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid \
                       AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL \
                     GROUP BY i.indexrelid";
        let rows = client
            .query_typed(query, &[(&self.quoted(), Type::TEXT)])
            .await?;
        let mut key = key.to_vec();
        key.sort();
        Ok(rows.iter().any(|row| row.get::<_, Vec<&str>>(0) == key))
    }

    async fn create(&self, client: &Object, per: Per) -> Result<(), Failure> {
        let (schema, name) = match per {
            Per::Folder => (
                include_str!("../schema/postgres_folder.sql"),
                "\"device_test\"",
            ),
            Per::Picture | Per::File => (
                include_str!("../schema/postgres_file.sql"),
                "\"device_file\"",
            ),
        };
        let create = schema.replace(name, &self.quoted());
        self.change(client, create).await
    }

    async fn add(&self, client: &Object, missing: &[&Column]) -> Result<(), Failure> {
        let additions: Vec<String> = missing
            .iter()
            .map(|column| format!("ADD COLUMN IF NOT EXISTS {}", definition(column)))
            .collect();
        let alter = format!("ALTER TABLE {} {}", self.quoted(), additions.join(", "));
        self.change(client, alter).await
    }

    /// Two daemons that create the same table at the same time meet in the catalogue; whoever
    /// comes second finds it there. `IF NOT EXISTS` looks before it creates, and what comes in
    /// between is one of these errors, by how far the other was.
    async fn change(&self, client: &Object, statement: String) -> Result<(), Failure> {
        let there_by_now = [
            SqlState::UNIQUE_VIOLATION,
            SqlState::DUPLICATE_TABLE,
            SqlState::DUPLICATE_OBJECT,
            SqlState::DUPLICATE_COLUMN,
        ];
        match client.execute_typed(&statement, &[]).await {
            Err(error) if error.code().is_some_and(|code| there_by_now.contains(code)) => Ok(()),
            Err(error) => Err(Failure::Change(error)),
            Ok(_) => Ok(()),
        }
    }

    /// Takes an array of text for each column, which the server casts to the column's own type.
    pub fn upsert_sql(&self, layout: &Layout, types: &Types) -> String {
        let count = layout.columns.len();
        let casts: Vec<String> = layout
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| match types.get(&column.name) {
                Some(kind) if kind != "text" => format!("c{at}::{kind}"),
                _ => format!("c{at}"),
            })
            .collect();
        let arrays: Vec<String> = (1..=count).map(|at| format!("${at}::text[]")).collect();
        let aliases: Vec<String> = (0..count).map(|at| format!("c{at}")).collect();
        // A newer version may have dropped a file that an older one would bring back.
        let unless_newer = match layout.per {
            Per::Folder => String::new(),
            Per::Picture | Per::File => {
                let version = layout
                    .columns
                    .iter()
                    .position(|column| column.name == "version");
                format!(
                    "WHERE NOT EXISTS (SELECT 1 FROM {table} t WHERE t.\"mount_id\" = u.c0 \
                     AND t.\"folder\" = u.c1 AND t.\"version\" > u.c{}::bigint)",
                    version.unwrap_or_default(),
                    table = self.quoted(),
                )
            }
        };
        format!(
            "INSERT INTO {table} AS there ({}) SELECT {} FROM unnest({}) AS u({}) {unless_newer} {}",
            names(layout),
            casts.join(", "),
            arrays.join(", "),
            aliases.join(", "),
            on_conflict("there", layout),
            table = self.quoted(),
        )
    }

    /// Deletes rows of folders whose version compares so with the one given.
    pub fn delete_sql(&self, comparison: &str) -> String {
        format!(
            "DELETE FROM {} t USING unnest($1::text[], $2::text[], $3::bigint[]) u(m, f, v) \
             WHERE t.\"mount_id\" = u.m AND t.\"folder\" = u.f AND t.\"version\" {comparison} u.v",
            self.quoted()
        )
    }
}

fn definition(column: &Column) -> String {
    let kind = match column.kind {
        Kind::Text => "text",
        Kind::Integer => "bigint",
        Kind::Number => "numeric",
        Kind::Boolean => "boolean",
        Kind::Time => "timestamptz",
        Kind::Json => "jsonb",
    };
    format!("{} {kind}", quoted(&column.name))
}
