//! Vendors of payments, shops and travel: their credentials, and how they show their records.

use serde_json::{Value as Json, json};

use crate::support::server::Answer;

use super::fake::{Call, Item, Vendor, behind, cut, json as body, rfc3339, seconds, shown};

/// RFC 6749, section 5.1.
fn bearer(token: &str) -> Answer {
    body(json!({ "access_token": token, "token_type": "Bearer", "expires_in": 1799 }))
}

pub static STRIPE: Vendor =
    Vendor { contract: "stripe", credentials: &[("bearerAuth", "rk_test_stripe")], tokens: None, answer: stripe };

/// docs.stripe.com/api/pagination: newest first, `starting_after` an id, `has_more`.
fn stripe(call: &Call<'_>) -> Answer {
    let events = call.operation == "GetEvents";
    let id = |item: &Item| format!("{}_{:06}", if events { "evt" } else { "ch" }, item.id);
    let from = call.query("created[gte]").map_or(0, |text| text.parse().expect("the contract says so"));
    let all: Vec<&Item> = call.newest().into_iter().filter(|item| item.born >= from).collect();
    let (page, more) = cut(&all, behind(&all, call.query("starting_after"), id), call.size("limit"));
    let record = |item: &Item| {
        if events {
            json!({ "id": id(item), "object": "event", "type": "charge.succeeded", "created": item.born,
                "livemode": false, "pending_webhooks": item.version, "data": { "object": { "id": "ch_1" } } })
        } else {
            json!({ "id": id(item), "object": "charge", "amount": 1200, "currency": "eur", "created": item.born,
                "refunded": item.version > 0, "receipt_url": format!("https://pay.stripe.com/receipts/{}", item.touched) })
        }
    };
    body(json!({ "object": "list", "url": call.request.path, "has_more": more, "data": shown(page, record) }))
}

pub static PAYPAL: Vendor = Vendor {
    contract: "paypal",
    credentials: &[("ClientBasic", "paypal-id:paypal-secret")],
    tokens: Some(("oauth2.token.handwritten", bearer)),
    answer: paypal,
};

/// developer.paypal.com/docs/api/invoicing/v2 and /transaction-search/v1: pages by number, filled as asked.
fn paypal(call: &Call<'_>) -> Answer {
    let all = call.newest();
    let size = call.number("page_size").unwrap_or(20);
    let number = call.number("page").unwrap_or(1);
    let (page, _) = cut(&all, (number - 1) * size, size);
    let pages = all.len().div_ceil(size);
    if call.operation == "invoices.list" {
        let status = |item: &Item| if item.version == 0 { "SENT" } else { "PAID" };
        let record = |item: &Item| {
            json!({ "id": format!("INV2-{:06}", item.id), "status": status(item),
                "detail": { "invoice_number": item.id.to_string(), "currency_code": "USD" } })
        };
        return body(json!({ "total_pages": pages, "items": shown(page, record), "links": [] }));
    }
    let record = |item: &Item| {
        json!({ "transaction_info": { "transaction_id": format!("TX{:015}", item.id),
            "transaction_status": if item.version == 0 { "P" } else { "S" },
            "transaction_amount": { "currency_code": "USD", "value": "12.30" },
            "transaction_initiation_date": rfc3339(item.born) } })
    };
    body(json!({ "transaction_details": shown(page, record), "page": number, "total_pages": pages }))
}

pub static SHOPIFY: Vendor =
    Vendor { contract: "shopify", credentials: &[("AccessToken", "shpat_test")], tokens: None, answer: shopify };

/// shopify.dev/docs/api/admin-rest/usage/pagination: `Link` with a `page_info` that holds the filters; beside it only
/// `limit` and `fields` may stand.
fn shopify(call: &Call<'_>) -> Answer {
    if call.operation == "graphql" {
        return shopify_graphql(call);
    }
    // A page_info is opaque; here it is the place and the lower bound.
    let (from, since) = match call.query("page_info") {
        Some(_) if call.request.query.keys().any(|name| !["page_info", "limit", "fields"].contains(&name.as_str())) => {
            return Answer::new(400, json!({ "errors": { "page_info": "Invalid value." } }).to_string());
        }
        Some(info) => {
            let (from, since) = info.split_once('.').expect("a page_info that was given out");
            (from.parse().expect("a place"), since.parse().expect("a time"))
        }
        None => (0, call.query("updated_at_min").map_or(0, seconds)),
    };
    let mut all: Vec<&Item> = call.oldest().into_iter().filter(|item| item.touched >= since).collect();
    let orders = call.operation == "orders";
    if orders {
        all.sort_by_key(|item| item.touched);
    }
    let size = call.size("limit");
    let (page, more) = cut(&all, from, size);
    let record = |item: &Item| {
        let changed = item.version > 0;
        if orders {
            json!({ "id": 5_000_000_000_u64 + item.id, "name": format!("#{}", item.id), "updated_at": rfc3339(item.touched),
                "financial_status": if changed { "refunded" } else { "paid" }, "total_price": "10.00" })
        } else {
            json!({ "id": 5_000_000_000_u64 + item.id, "title": if changed { "New" } else { "Old" },
                "updated_at": rfc3339(item.touched), "variants": [{ "id": item.id, "price": "10.00" }], "images": [] })
        }
    };
    let answer = body(json!({ (if orders { "orders" } else { "products" }): shown(page, record) }))
        .header("x-shopify-shop-api-call-limit", "1/40");
    if !more {
        return answer;
    }
    let link = format!(
        "<{}{}?limit={size}&page_info={}.{since}>; rel=\"next\"",
        call.origin(),
        call.request.path,
        from + size
    );
    answer.header("link", link)
}

/// shopify.dev/docs/api/usage/pagination-graphql: `pageInfo`; an unknown field is an error in a 200.
fn shopify_graphql(call: &Call<'_>) -> Answer {
    const KNOWN: &str = "query Products after String products first sortKey ID pageInfo hasNextPage endCursor nodes id \
        handle title status vendor productType updatedAt variants sku price inventoryQuantity";
    let asked = call.request.json();
    let text = asked["query"].as_str().expect("the contract says so");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let words = words.filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()));
    if let Some(unknown) = words.into_iter().find(|word| !KNOWN.split_whitespace().any(|known| known == *word)) {
        return body(
            json!({ "errors": [{ "message": format!("Field '{unknown}' doesn't exist on type 'Product'") }] }),
        );
    }
    let cursor = |item: &Item| format!("cursor-{}", item.id);
    let all = call.oldest();
    let (page, more) = cut(&all, behind(&all, asked["variables"]["after"].as_str(), cursor), call.size("first"));
    let record = |item: &Item| {
        json!({ "id": format!("gid://shopify/Product/{}", item.id), "title": if item.version > 0 { "New" } else { "Old" },
            "updatedAt": rfc3339(item.touched), "variants": { "nodes": [] } })
    };
    let end = page.last().map_or(Json::Null, |item| json!(cursor(item)));
    body(json!({
        "data": { "products": { "pageInfo": { "hasNextPage": more, "endCursor": end }, "nodes": shown(page, record) } },
        "extensions": { "cost": { "requestedQueryCost": 12, "throttleStatus": { "currentlyAvailable": 1988 } } },
    }))
}

pub static AMADEUS: Vendor = Vendor {
    contract: "amadeus",
    credentials: &[("client_id", "amadeus-id"), ("client_secret", "amadeus-secret")],
    tokens: Some(("oauth2Token", bearer)),
    answer: amadeus,
};

/// developers.amadeus.com, Flight Offers Search: one answer; an offer's id is its place in it.
fn amadeus(call: &Call<'_>) -> Answer {
    let offer = |place: usize, item: &Item, fare: u64| {
        json!({ "type": "flight-offer", "id": (place + 1).to_string(), "numberOfBookableSeats": 9 - item.version,
            "itineraries": [{ "segments": [{ "id": place.to_string(), "carrierCode": "QF",
                "number": (100 + item.id).to_string(), "departure": { "iataCode": "SYD", "at": "2027-05-02T10:00:00" } }] }],
            "price": { "currency": "EUR", "total": format!("{fare}.00"), "grandTotal": format!("{fare}.00") },
            "travelerPricings": [] })
    };
    // The same flights in a dearer fare too, cheapest offers first.
    let fares = call.items.iter().flat_map(|item| [(item, 500 + 5 * item.version), (item, 900)]);
    let mut fares: Vec<(&Item, u64)> = fares.collect();
    fares.sort_by_key(|(_, fare)| *fare);
    let data: Vec<Json> = fares.iter().enumerate().map(|(place, (item, fare))| offer(place, item, *fare)).collect();
    body(json!({ "meta": { "count": data.len() }, "data": data }))
}
