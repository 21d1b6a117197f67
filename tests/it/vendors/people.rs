//! Vendors of messages, work and social media: their credentials, and how they show their records.

use serde_json::{Value as Json, json};

use crate::support::server::Answer;

use super::fake::{Call, Item, Vendor, behind, cut, json as body, now, rfc3339, seconds, shown};

pub static TWILIO: Vendor = Vendor {
    contract: "twilio",
    credentials: &[("accountSid_authToken", "AC00000000000000000000000000000000:twilio-token")],
    tokens: None,
    answer: twilio,
};

/// twilio.com/docs/usage/twilios-response: newest first, a relative `next_page_uri` that repeats the filters.
fn twilio(call: &Call<'_>) -> Answer {
    let messages = call.operation == "ListMessage";
    let (list, prefix, filter) = if messages { ("messages", "SM", "DateSent>") } else { ("calls", "CA", "StartTime>") };
    let from = call.query(filter).map_or(0, seconds);
    let all: Vec<&Item> = call.newest().into_iter().filter(|item| item.born >= from).collect();
    let sid = |item: &Item| format!("{prefix}{:032x}", item.id);
    let token = call.query("PageToken").map(|token| token.trim_start_matches("PA"));
    let (page, more) = cut(&all, behind(&all, token, sid), call.size("PageSize"));
    let record = |item: &Item| {
        json!({ "sid": sid(item), "status": if item.version == 0 { "queued" } else { "delivered" },
            "date_created": rfc3339(item.born), "price": null })
    };
    let number = call.number("Page").unwrap_or(0);
    let next = page.last().filter(|_| more).map(|last| {
        let filter = call.query(filter).map(|value| {
            url::form_urlencoded::Serializer::new(String::new()).append_pair(filter, value).finish() + "&"
        });
        format!(
            "{}?{}PageSize=2&Page={}&PageToken=PA{}",
            call.request.path,
            filter.unwrap_or_default(),
            number + 1,
            sid(last)
        )
    });
    body(json!({ list: shown(page, record), "page": number, "page_size": page.len(), "next_page_uri": next,
        "uri": call.request.target }))
}

pub static SLACK: Vendor =
    Vendor { contract: "slack", credentials: &[("slackAuth", "xoxb-slack")], tokens: None, answer: slack };

/// docs.slack.dev/reference/methods/conversations.history: newest first, `response_metadata.next_cursor`.
fn slack(call: &Call<'_>) -> Answer {
    let oldest: f64 = call.query("oldest").map_or(0.0, |at| at.parse().expect("the contract says so"));
    let since = |item: &&Item| f64::from(u32::try_from(item.born).expect("a time of today")) >= oldest;
    let all: Vec<&Item> = call.newest().into_iter().filter(since).collect();
    let ts = |item: &Item| format!("{}.{:06}", item.born, item.id);
    let cursor = |item: &Item| format!("bmV4dF90czo{}=", item.id);
    let (page, more) = cut(&all, behind(&all, call.query("cursor"), cursor), call.size("limit"));
    let record = |item: &Item| {
        let text = format!("hello, version {}", item.version);
        json!({ "type": "message", "user": "U0123456789", "text": text, "ts": ts(item) })
    };
    let next = page.last().filter(|_| more).map(|last| cursor(last)).unwrap_or_default();
    body(json!({ "ok": true, "messages": shown(page, record), "has_more": more, "pin_count": 0,
        "response_metadata": { "next_cursor": next } }))
}

pub static DISCORD: Vendor =
    Vendor { contract: "discord", credentials: &[("BotToken", "Bot discord-token")], tokens: None, answer: discord };

/// A message's id, above what a float holds exactly.
pub fn snowflake(id: u64) -> u64 {
    1_450_000_000_000_000_001 + (id << 22)
}

/// discord.com/developers/docs/resources/message: with `after` the oldest messages behind it, newest first on the page.
fn discord(call: &Call<'_>) -> Answer {
    let after: u64 = call.query("after").map_or(0, |id| id.parse().expect("the contract says so"));
    let all: Vec<&Item> = call.oldest().into_iter().filter(|item| snowflake(item.id) > after).collect();
    let (page, _) = cut(&all, 0, call.size("limit"));
    let record = |item: &Item| {
        let edited = (item.version > 0).then(|| rfc3339(item.touched));
        json!({ "id": snowflake(item.id).to_string(), "content": format!("message {}", item.id), "type": 0,
            "timestamp": rfc3339(item.born), "edited_timestamp": edited })
    };
    let mut data = shown(page, record);
    data.reverse();
    body(Json::Array(data))
        .header("x-ratelimit-limit", "5")
        .header("x-ratelimit-remaining", "4")
        .header("x-ratelimit-reset-after", "1.000")
        .header("x-ratelimit-bucket", "abcd1234")
}

pub static TRELLO: Vendor = Vendor {
    contract: "trello",
    credentials: &[("APIKey", "trello-key-0123"), ("APIToken", "trello-token-4567")],
    tokens: None,
    answer: trello,
};

pub fn trello_id(id: u64) -> String {
    format!("{:024x}", 0x6500_0000_0000_u64 + id)
}

/// developer.atlassian.com/cloud/trello/guides/rest-api/nested-resources: newest first, `before` an id.
fn trello(call: &Call<'_>) -> Answer {
    let all: Vec<&Item> = call.newest();
    let before = call.query("before");
    let all: Vec<&Item> =
        all.into_iter().filter(|item| before.is_none_or(|id| trello_id(item.id).as_str() < id)).collect();
    let (page, _) = cut(&all, 0, call.size("limit"));
    let record = |item: &Item| {
        if call.operation == "get-boards-id-actions" {
            json!({ "id": trello_id(item.id), "type": "updateCard", "date": rfc3339(item.born), "data": {} })
        } else {
            json!({ "id": trello_id(item.id), "name": format!("card, version {}", item.version), "closed": false,
                "idLabels": [], "idMembers": [], "labels": [] })
        }
    };
    body(Json::Array(shown(page, record)))
}

pub static GITHUB: Vendor =
    Vendor { contract: "github", credentials: &[("bearerHandwritten", "ghp_github")], tokens: None, answer: github };

/// docs.github.com/en/rest: `Link` with absolute URLs, `since` for issues, an ETag, X-RateLimit and X-Poll-Interval.
fn github(call: &Call<'_>) -> Answer {
    let mut all: Vec<&Item> = call.newest();
    if call.operation == "issues/list-for-repo" {
        let since = call.query("since").map_or(0, seconds);
        all.retain(|item| item.touched >= since);
        // The recipe may ask for either direction; this is what `sort=updated&direction=asc` means.
        if (call.query("sort"), call.query("direction")) == (Some("updated"), Some("asc")) {
            all.sort_by_key(|item| item.touched);
        }
    }
    let (size, number) = (call.size("per_page"), call.number("page").unwrap_or(1));
    let (page, more) = cut(&all, (number - 1) * size, size);
    let record = |item: &Item| match call.operation {
        "issues/list-for-repo" => json!({ "id": item.id, "number": item.id, "title": "An issue", "labels": [],
            "state": if item.version == 0 { "open" } else { "closed" }, "updated_at": rfc3339(item.touched),
            "assignees": [], "reactions": { "total_count": 0 } }),
        "repos/list-releases" => {
            json!({ "id": item.id, "tag_name": format!("v{}", item.id), "draft": item.version == 0,
            "assets": [{ "id": 1, "download_count": item.touched }] })
        }
        _ => json!({ "id": item.id.to_string(), "type": "WatchEvent", "created_at": rfc3339(item.born) }),
    };
    let text = Json::Array(shown(page, record)).to_string();
    let etag = format!("W/\"{}\"", blake3::hash(text.as_bytes()).to_hex());
    let same = call.request.header("if-none-match") == Some(etag.as_str());
    let mut answer = if same { Answer::new(304, "") } else { Answer::json(text) }
        .header("etag", etag)
        .header("x-ratelimit-limit", "5000")
        .header("x-ratelimit-remaining", "4990")
        .header("x-ratelimit-reset", (now() + 3000).to_string());
    if call.operation == "activity/list-repo-events" {
        answer = answer.header("x-poll-interval", "60");
    }
    if !more {
        return answer;
    }
    // All parameters again, with the next page's number.
    let mut query = call.request.query.clone();
    query.insert("page".into(), (number + 1).to_string());
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    answer.header("link", format!("<{}{}?{query}>; rel=\"next\"", call.origin(), call.request.path))
}

pub static INSTAGRAM: Vendor =
    Vendor { contract: "instagram", credentials: &[("AccessToken", "EAAinstagram")], tokens: None, answer: instagram };

/// developers.facebook.com/docs/graph-api/results: `paging.cursors.after`, and `paging.next` while more follows.
fn instagram(call: &Call<'_>) -> Answer {
    let all = call.newest();
    let cursor = |item: &Item| format!("QVFI{}", item.id);
    let nested = call.query("fields").is_some_and(|fields| fields.contains("comments{"));
    // A page of media with their comments holds as many as were asked for.
    let size = if nested { call.number("limit").unwrap_or(25) } else { call.size("limit") };
    let (page, more) = cut(&all, behind(&all, call.query("after"), cursor), size);
    let record = |item: &Item| {
        let id = (17_000_000_000_000_000_u64 + item.id).to_string();
        if nested {
            let text = format!("comment, version {}", item.version);
            return json!({ "id": id, "comments": { "data": [{ "id": format!("18{:015}", item.id), "text": text }] } });
        }
        json!({ "id": id, "caption": format!("version {}", item.version), "like_count": item.touched,
            "media_url": format!("https://cdn.example.com/{}", item.touched), "timestamp": rfc3339(item.born) })
    };
    let mut paging = json!({ "cursors": { "before": "QVFI", "after": page.last().map(|last| cursor(last)) } });
    if let Some(last) = page.last().filter(|_| more) {
        let path = &call.request.path;
        paging["next"] =
            json!(format!("https://graph.facebook.com{path}?access_token=EAAinstagram&after={}", cursor(last)));
    }
    body(json!({ "data": shown(page, record), "paging": paging })).header("x-app-usage", "{\"call_count\":1}")
}

pub static X: Vendor = Vendor { contract: "x", credentials: &[("BearerToken", "x-token")], tokens: None, answer: x };

/// docs.x.com/x-api/fundamentals/pagination: newest first, `next_token`; no `data` where there is none.
fn x(call: &Call<'_>) -> Answer {
    let since: u64 = call.query("since_id").map_or(0, |id| id.parse().expect("the contract says so"));
    let all: Vec<&Item> = call.newest().into_iter().filter(|item| snowflake(item.id) > since).collect();
    let token = |item: &Item| format!("7140dibdnow9c7btw{}", item.id);
    let (page, more) = cut(&all, behind(&all, call.query("pagination_token"), token), call.size("max_results"));
    if page.is_empty() {
        return body(json!({ "meta": { "result_count": 0 } }));
    }
    let record = |item: &Item| {
        json!({ "id": snowflake(item.id).to_string(), "text": format!("@user post {}", item.id),
            "created_at": rfc3339(item.born) })
    };
    let mut meta = json!({ "result_count": page.len() });
    if let Some(last) = page.last().filter(|_| more) {
        meta["next_token"] = json!(token(last));
    }
    body(json!({ "data": shown(page, record), "meta": meta }))
        .header("x-rate-limit-limit", "300")
        .header("x-rate-limit-remaining", "299")
        .header("x-rate-limit-reset", (now() + 900).to_string())
}

pub static SUPERTOKENS: Vendor = Vendor {
    contract: "supertokens",
    credentials: &[("api-key", "supertokens-key")],
    tokens: None,
    answer: supertokens,
};

/// The core driver interface, GET /users: in the order of joining, `nextPaginationToken` while more follows.
fn supertokens(call: &Call<'_>) -> Answer {
    let all = if call.query("timeJoinedOrder") == Some("DESC") { call.newest() } else { call.oldest() };
    let token = |item: &Item| format!("dG9rZW4{}", item.id);
    let (page, more) = cut(&all, behind(&all, call.query("paginationToken"), token), call.size("limit"));
    let record = |item: &Item| {
        let email = format!("user{}.{}@example.com", item.id, item.version);
        json!({ "id": format!("user-{}", item.id), "timeJoined": item.born * 1000, "emails": [email] })
    };
    let mut answer = json!({ "status": "OK", "users": shown(page, record) });
    if let Some(last) = page.last().filter(|_| more) {
        answer["nextPaginationToken"] = json!(token(last));
    }
    body(answer)
}
