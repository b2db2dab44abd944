use proptest::prelude::*;

use crate::supabase::realtime::phoenix::{Event, TOPIC};

proptest! {
    #[test]
    fn no_message_is_too_strange(text in any::<String>(), event in "[a-z_]{0,12}", payload in any::<String>()) {
        Event::read(&text);
        Event::read(&format!(r#"{{"topic":"{TOPIC}","event":"{event}","payload":{payload}}}"#));
        for known in ["phx_reply", "postgres_changes", "system"] {
            Event::read(&serde_json::json!({"topic": TOPIC, "event": known, "payload": payload, "ref": text}).to_string());
        }
    }
}

#[test]
fn a_message_of_words_that_are_escaped_or_out_of_order_is_read() {
    let frame = r#"{"ref":null,"payload":{"data":{"record":{"table":"x"},"table":"n\u00f6te","schema":"public"}},"event":"postgres\u005fchanges","topic":"realtime:dynos\u002dsync"}"#;
    assert_eq!(Event::read(frame), Event::Changed { schema: "public".into(), table: "nöte".into() });
}
