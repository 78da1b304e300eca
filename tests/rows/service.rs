//! A double of PostgREST: takes only requests as its documentation has them (version 12: Tables and
//! Views, Preferences, Schemas, Errors), refuses every other one, and does with a real database
//! what PostgREST does, with the statement that PostgREST makes.
#![allow(dead_code)] // each test file uses a part of it

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_postgres::error::DbError;
use tokio_postgres::types::Type;

use super::server::Database;

/// Keys that the gateway knows, and the database role of each.
const KEYS: [(&str, &str); 2] = [("service-key", "postgres"), ("anon-key", "anon")];

pub struct Service {
    pub database: Arc<Database>,
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Recorded>>>,
    task: tokio::task::JoinHandle<()>,
}

/// A request as it came, for comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

pub type Answer = (StatusCode, Value);

impl Service {
    pub async fn start(database: Database) -> Self {
        let database = Arc::new(database);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (shared, recorded) = (database.clone(), requests.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (database, requests) = (shared.clone(), recorded.clone());
                let service = service_fn(move |request| {
                    let (database, requests) = (database.clone(), requests.clone());
                    async move {
                        Ok::<_, std::convert::Infallible>(
                            serve(&database, &requests, request).await,
                        )
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self {
            database,
            address,
            requests,
            task,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.requests.lock())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    database: &Database,
    requests: &Mutex<Vec<Recorded>>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let query = head.uri.query().unwrap_or("");
    let recorded = Recorded {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    requests.lock().push(recorded.clone());
    let (status, body) = answer(database, &head.method, &recorded)
        .await
        .unwrap_or_else(|refused| refused);
    let body = match status {
        StatusCode::CREATED | StatusCode::NO_CONTENT => String::new(),
        _ => body.to_string(),
    };
    Response::builder()
        .status(status)
        .header("content-type", "application/json; charset=utf-8")
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}

/// Not PostgREST's: this double's word for a request that its documentation does not have.
fn undocumented(what: impl std::fmt::Display) -> Answer {
    let message = format!("undocumented: {what}");
    (StatusCode::NOT_IMPLEMENTED, json!({ "message": message }))
}

fn refusal(status: StatusCode, code: &str, message: String) -> Answer {
    (
        status,
        json!({ "code": code, "message": message, "details": null, "hint": null }),
    )
}

async fn answer(
    database: &Database,
    method: &Method,
    request: &Recorded,
) -> Result<Answer, Answer> {
    let role = role(request)?;
    let table = request
        .path
        .strip_prefix("/rest/v1/")
        .filter(|table| !table.is_empty() && !table.contains('/'))
        .ok_or_else(|| undocumented(&request.path))?;
    let work = Work::new(database, role, table).await?;
    match *method {
        Method::GET => work.read(request).await,
        Method::POST => work.insert(request).await,
        Method::DELETE => work.delete(request).await,
        _ => Err(undocumented(method)),
    }
}

/// Supabase's gateway wants `apikey`; PostgREST takes the role from the bearer token.
fn role(request: &Recorded) -> Result<&'static str, Answer> {
    let key = request.headers.get("apikey").ok_or((
        StatusCode::UNAUTHORIZED,
        json!({ "message": "No API key found in request", "hint": "No `apikey` request header or url param was found." }),
    ))?;
    if !KEYS.iter().any(|(known, _)| known == key) {
        return Err((
            StatusCode::UNAUTHORIZED,
            json!({ "message": "Invalid API key" }),
        ));
    }
    let token = request
        .headers
        .get("authorization")
        .map_or(Some(key.as_str()), |value| value.strip_prefix("Bearer "));
    let role = KEYS.iter().find(|(known, _)| Some(*known) == token);
    role.map(|(_, role)| *role).ok_or_else(|| {
        refusal(
            StatusCode::UNAUTHORIZED,
            "PGRST301",
            "JWSError JWSInvalidSignature".into(),
        )
    })
}

struct Work {
    client: tokio_postgres::Client,
    table: String,
    columns: Vec<String>,
}

impl Work {
    async fn new(database: &Database, role: &str, table: &str) -> Result<Self, Answer> {
        let client = database.client().await;
        let query = "SELECT array_agg(column_name::text) FROM information_schema.columns \
                     WHERE table_schema = 'public' AND table_name = $1";
        let row = client
            .query_one(query, &[&table])
            .await
            .map_err(database_error)?;
        let columns = row.get::<_, Option<Vec<String>>>(0).ok_or_else(|| {
            let message = format!("Could not find the table 'public.{table}' in the schema cache");
            refusal(StatusCode::NOT_FOUND, "PGRST205", message)
        })?;
        let set = format!("SET ROLE {role}");
        client.batch_execute(&set).await.map_err(database_error)?;
        Ok(Self {
            client,
            table: table.to_owned(),
            columns,
        })
    }

    async fn read(&self, request: &Recorded) -> Result<Answer, Answer> {
        let mut query = request.query.clone();
        let select = query
            .remove("select")
            .ok_or_else(|| undocumented("no select"))?;
        let select = self.columns_of(&select)?;
        let order = match query.remove("order").as_deref() {
            None => "",
            Some("version.desc") => "ORDER BY \"version\" DESC",
            Some(other) => return Err(undocumented(other)),
        };
        let limit = match query.remove("limit") {
            None => "LIMIT 1000".to_owned(), // what Supabase cuts answers to
            Some(limit) => format!(
                "LIMIT {}",
                limit.parse::<u32>().map_err(undocumented)?.min(1000)
            ),
        };
        let filters = self.filters(&query)?;
        let sql = format!(
            "SELECT coalesce(json_agg(r), '[]')::text FROM \
             (SELECT {} FROM public.{} WHERE {filters} {order} {limit}) r",
            select.join(", "),
            quoted(&self.table)
        );
        let row = self
            .client
            .query_one(&sql, &[])
            .await
            .map_err(database_error)?;
        Ok((StatusCode::OK, serde_json::from_str(row.get(0)).unwrap()))
    }

    async fn insert(&self, request: &Recorded) -> Result<Answer, Answer> {
        if request.headers.get("content-type").map(String::as_str) != Some("application/json") {
            return Err(undocumented("a body that is not said to be JSON"));
        }
        let mut prefer = preferences(request)?;
        if prefer.remove("resolution").as_deref() != Some("merge-duplicates") {
            return Err(undocumented("no resolution=merge-duplicates"));
        }
        prefer.retain(|name, value| !(name == "return" && value == "minimal"));
        if !prefer.is_empty() {
            return Err(undocumented(format!("{prefer:?}")));
        }
        let not_json = |error: serde_json::Error| {
            let message = format!("Empty or invalid json: {error}");
            refusal(StatusCode::BAD_REQUEST, "PGRST102", message)
        };
        let mut query = request.query.clone();
        let key = self.columns_of(
            &query
                .remove("on_conflict")
                .ok_or_else(|| undocumented("no on_conflict"))?,
        )?;
        let columns = match query.remove("columns") {
            // The database reads the body; only that it is JSON is looked at here.
            Some(columns) => {
                serde_json::from_str::<serde::de::IgnoredAny>(&request.body).map_err(not_json)?;
                self.columns_of(&columns)?
            }
            None => self.keys_of(&serde_json::from_str(&request.body).map_err(not_json)?)?,
        };
        if !query.is_empty() {
            return Err(undocumented(format!("{query:?}")));
        }
        let list = columns.join(", ");
        let changes: Vec<String> = columns
            .iter()
            .map(|name| format!("{name} = EXCLUDED.{name}"))
            .collect();
        let sql = format!(
            "INSERT INTO public.{table} ({list}) SELECT {list} FROM \
             json_populate_recordset(null::public.{table}, $1::text::json) \
             ON CONFLICT ({}) DO UPDATE SET {}",
            key.join(", "),
            changes.join(", "),
            table = quoted(&self.table)
        );
        let done = self
            .client
            .execute_typed(&sql, &[(&request.body, Type::TEXT)])
            .await;
        done.map_err(database_error)?;
        Ok((StatusCode::CREATED, Value::Null))
    }

    async fn delete(&self, request: &Recorded) -> Result<Answer, Answer> {
        if preferences(request)?
            .into_iter()
            .any(|preference| preference != ("return".into(), "minimal".into()))
        {
            return Err(undocumented("a preference that DELETE does not have"));
        }
        if request.query.is_empty() {
            return Err(undocumented("a DELETE without filters"));
        }
        let sql = format!(
            "DELETE FROM public.{} WHERE {}",
            quoted(&self.table),
            self.filters(&request.query)?
        );
        self.client
            .execute(&sql, &[])
            .await
            .map_err(database_error)?;
        Ok((StatusCode::NO_CONTENT, Value::Null))
    }

    /// Without `columns`, all objects must have the same keys.
    fn keys_of(&self, rows: &Value) -> Result<Vec<String>, Answer> {
        let objects = rows
            .as_array()
            .ok_or_else(|| undocumented("not an array"))?;
        let keys = |row: &Value| {
            row.as_object()
                .map(|row| row.keys().cloned().collect::<Vec<_>>())
        };
        let first = objects
            .first()
            .and_then(keys)
            .ok_or_else(|| undocumented("no rows"))?;
        if objects.iter().any(|row| keys(row).as_ref() != Some(&first)) {
            let message = "All object keys must match".to_owned();
            return Err(refusal(StatusCode::BAD_REQUEST, "PGRST102", message));
        }
        first.iter().map(|name| self.column(name)).collect()
    }

    fn columns_of(&self, list: &str) -> Result<Vec<String>, Answer> {
        values(list)?.iter().map(|name| self.column(name)).collect()
    }

    fn column(&self, name: &str) -> Result<String, Answer> {
        if self.columns.iter().any(|known| known == name) {
            return Ok(quoted(name));
        }
        let message = format!(
            "Could not find the '{name}' column of '{}' in the schema cache",
            self.table
        );
        Err(refusal(StatusCode::BAD_REQUEST, "PGRST204", message))
    }

    fn filters(&self, query: &BTreeMap<String, String>) -> Result<String, Answer> {
        let mut filters = vec!["true".to_owned()];
        for (name, filter) in query {
            let column = self.column(name)?;
            let (operator, operand) = filter.split_once('.').ok_or_else(|| undocumented(filter))?;
            filters.push(match operator {
                "eq" => format!("{column} = {}", literal(operand)),
                "lt" => format!("{column} < {}", literal(operand)),
                "lte" => format!("{column} <= {}", literal(operand)),
                "in" => {
                    let list = operand
                        .strip_prefix('(')
                        .and_then(|list| list.strip_suffix(')'));
                    let list = values(list.ok_or_else(|| undocumented(operand))?)?;
                    let list: Vec<String> = list.iter().map(|value| literal(value)).collect();
                    format!("{column} IN ({})", list.join(", "))
                }
                other => return Err(undocumented(other)),
            });
        }
        Ok(filters.join(" AND "))
    }
}

/// `a,"b ""c"`: values that hold reserved characters stand in double quotes, in which a backslash
/// escapes.
pub fn values(list: &str) -> Result<Vec<String>, Answer> {
    let mut values = vec![String::new()];
    let mut characters = list.chars();
    let mut quoted = false;
    while let Some(c) = characters.next() {
        let value = values.last_mut().unwrap();
        match c {
            '\\' if quoted => value.push(characters.next().ok_or_else(|| undocumented(list))?),
            '"' => quoted = !quoted,
            ',' if !quoted => values.push(String::new()),
            '.' | ':' | '(' | ')' | ' ' if !quoted => {
                return Err(undocumented(format!("unquoted {c}")));
            }
            c => value.push(c),
        }
    }
    match quoted {
        true => Err(undocumented(list)),
        false => Ok(values),
    }
}

/// `Prefer: a=b,c=d`, in one header or several.
fn preferences(request: &Recorded) -> Result<BTreeMap<String, String>, Answer> {
    let Some(header) = request.headers.get("prefer") else {
        return Ok(BTreeMap::new());
    };
    header
        .split(',')
        .map(|preference| {
            let (name, value) = preference
                .trim()
                .split_once('=')
                .ok_or_else(|| undocumented(header))?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// The HTTP status of each SQLSTATE, by the table in "Errors".
fn database_error(error: tokio_postgres::Error) -> Answer {
    let error: &DbError = error.as_db_error().unwrap();
    let status = match error.code().code() {
        "42501" => StatusCode::FORBIDDEN,
        "42P01" => StatusCode::NOT_FOUND,
        "23503" | "23505" => StatusCode::CONFLICT,
        code if code.starts_with("53") => StatusCode::SERVICE_UNAVAILABLE,
        code if ["08", "57", "58", "XX"].contains(&&code[..2]) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    let body = json!({
        "code": error.code().code(),
        "message": error.message(),
        "details": error.detail(),
        "hint": error.hint(),
    });
    (status, body)
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
