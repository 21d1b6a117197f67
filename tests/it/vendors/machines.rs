//! Vendors of models, places, weather and monitoring: their credentials, and how they show their records.

use serde_json::{Value as Json, json};

use crate::support::server::Answer;

use super::fake::{Call, Item, Vendor, behind, cut, json as body, shown};

pub static OPENAI: Vendor =
    Vendor { contract: "openai", credentials: &[("ApiKeyAuth", "sk-openai")], tokens: None, answer: openai };

/// platform.openai.com/docs/api-reference: newest first, `after` an id, `has_more`; only batches have `last_id`.
fn openai(call: &Call<'_>) -> Answer {
    let batches = call.operation == "listBatches";
    let id = |item: &Item| format!("{}{:06}", if batches { "batch_" } else { "ftjob-" }, item.id);
    let all = call.newest();
    let (page, more) = cut(&all, behind(&all, call.query("after"), id), call.size("limit"));
    let record = |item: &Item| {
        let status = match (item.version, batches) {
            (0, true) => "in_progress",
            (0, false) => "running",
            (_, true) => "completed",
            (_, false) => "succeeded",
        };
        json!({ "id": id(item), "status": status, "created_at": item.born, "estimated_finish": item.touched,
            "request_counts": { "total": 100, "completed": item.version } })
    };
    let mut answer = json!({ "object": "list", "data": shown(page, record), "has_more": more });
    if batches {
        answer["last_id"] = page.last().map_or(Json::Null, |last| json!(id(last)));
    }
    body(answer)
}

pub static STABILITY: Vendor = Vendor {
    contract: "stability",
    credentials: &[("STABILITY_API_KEY", "sk-stability")],
    tokens: None,
    answer: stability,
};

/// platform.stability.ai/docs/api-reference#tag/Results: 202 while the work goes on, 404 when the result is gone.
fn stability(call: &Call<'_>) -> Answer {
    let Some(item) = call.items.first() else {
        return Answer::new(404, json!({ "name": "not_found", "errors": ["not found"] }).to_string());
    };
    if item.version == 0 {
        let id = call.request.path.rsplit('/').next().expect("a path");
        let body = json!({ "id": id, "status": "in-progress" });
        return Answer::new(202, body.to_string()).header("content-type", "application/json");
    }
    let finish = if item.version == 1 { "SUCCESS" } else { "CONTENT_FILTERED" };
    body(json!({ "result": "iVBORw0KGgo=", "finish_reason": finish, "seed": 42 }))
}

pub static GOOGLE: Vendor =
    Vendor { contract: "googlemaps", credentials: &[("ApiKeyAuth", "AIza-google")], tokens: None, answer: google };

/// developers.google.com/maps/documentation: a status in each 200, `next_page_token`.
fn google(call: &Call<'_>) -> Answer {
    if call.operation == "geocode" {
        let Some(item) = call.items.first() else {
            return body(json!({ "status": "ZERO_RESULTS", "results": [] }));
        };
        let address = format!("{} Pyrmont Street", 48 + item.version);
        let place = json!({ "place_id": "ChIJN1t_tDeuEmsRUsoyG83frY4", "formatted_address": address });
        return body(json!({ "status": "OK", "results": [place] }));
    }
    let token = |item: &Item| format!("Aap_uEA{}", item.id);
    let all = call.oldest();
    // Nobody asks for a size: there are 20 to a page in truth.
    let (page, more) = cut(&all, behind(&all, call.query("pagetoken"), token), call.size("none"));
    let record = |item: &Item| {
        let status = if item.version == 0 { "OPERATIONAL" } else { "CLOSED_PERMANENTLY" };
        json!({ "place_id": format!("ChIJ{:06}", item.id), "name": "A place", "business_status": status,
            "rating": 4.5, "user_ratings_total": item.touched, "types": ["cafe", "food"],
            "opening_hours": { "open_now": item.touched % 1200 == 0 } })
    };
    let mut answer = json!({ "status": if page.is_empty() { "ZERO_RESULTS" } else { "OK" }, "html_attributions": [],
        "results": shown(page, record) });
    if let Some(last) = page.last().filter(|_| more) {
        answer["next_page_token"] = json!(token(last));
    }
    body(answer)
}

pub static WEATHER: Vendor =
    Vendor { contract: "weather", credentials: &[("appid", "openweather-key")], tokens: None, answer: weather };

/// openweathermap.org/current and /forecast5.
fn weather(call: &Call<'_>) -> Answer {
    let step = |item: &Item| {
        json!({ "dt": item.born, "main": { "temp": 10 + 5 * item.version, "pressure": item.touched },
            "weather": [{ "id": 800, "main": "Clear" }], "dt_txt": "" })
    };
    if call.operation == "current" {
        let item = call.items.first().expect("there is always weather");
        let mut now = step(item);
        // Computed again for each answer.
        now["dt"] = json!(item.touched);
        return body(now);
    }
    body(json!({ "cod": "200", "cnt": call.items.len(), "list": shown(&call.oldest(), step) }))
}

pub static DATADOG: Vendor = Vendor {
    contract: "datadog",
    credentials: &[("apiKeyAuth", "dd-api-key-1"), ("appKeyAuth", "dd-app-key-2")],
    tokens: None,
    answer: datadog,
};

/// docs.datadoghq.com/api/latest/monitors: a bare array, pages from 0, filled as asked.
fn datadog(call: &Call<'_>) -> Answer {
    let all = call.oldest();
    let size = call.number("page_size").unwrap_or(100);
    let (page, _) = cut(&all, call.number("page").unwrap_or(0) * size, size);
    let record = |item: &Item| {
        json!({ "id": item.id, "type": "metric alert", "query": "avg(last_5m):avg:system.load.1{*} > 1", "tags": [],
            "overall_state": if item.version == 0 { "OK" } else { "Alert" }, "overall_state_modified": item.touched })
    };
    body(Json::Array(shown(page, record)))
        .header("x-ratelimit-limit", "100")
        .header("x-ratelimit-remaining", "99")
        .header("x-ratelimit-period", "60")
        .header("x-ratelimit-reset", "30")
        .header("x-ratelimit-name", "monitors")
}
