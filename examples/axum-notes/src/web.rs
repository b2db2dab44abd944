//! The application's own routes: a page with all notes, and a form for another.

use axum::{
    Form, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use dynos_sync::{SyncError, Table, new_id};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

use crate::note::Note;

pub(crate) fn router(notes: Table<Note>) -> Router {
    Router::new().route("/", get(page).post(add)).with_state(notes)
}

async fn page(State(notes): State<Table<Note>>) -> Result<Markup, Failure> {
    let notes = notes.query("ORDER BY id DESC", ()).await?;
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "Notes" } }
            body {
                h1 { "Notes" }
                form method="post" {
                    input name="text" aria-label="Note" required;
                    button { "Add" }
                }
                ul { @for note in notes { li { (note.text) } } }
            }
        }
    })
}

#[derive(Deserialize)]
struct New {
    text: String,
}

async fn add(State(notes): State<Table<Note>>, Form(New { text }): Form<New>) -> Result<Redirect, Failure> {
    notes.put(&Note { id: new_id(), text }).await?;
    Ok(Redirect::to("/"))
}

struct Failure(SyncError);

impl From<SyncError> for Failure {
    fn from(error: SyncError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.0.to_string()).into_response()
    }
}
