//! The table: one row for each bridge of a recipe, and four tests for each row.

use super::*;

/// A module with the four tests for each row.
macro_rules! rows {
    ($($name:ident => $row:expr;)*) => {
        $(pub mod $name {
            use super::*;

            pub fn row() -> Row {
                $row
            }

            #[tokio::test]
            async fn reports_what_changed() {
                super::reports_what_changed(row()).await;
            }

            #[tokio::test]
            async fn obeys_the_rate_limit() {
                super::obeys_the_rate_limit(row()).await;
            }

            #[tokio::test]
            async fn a_mistake_is_refused() {
                super::a_mistake_is_refused(row()).await;
            }

            #[tokio::test]
            async fn needs_its_credentials() {
                super::needs_its_credentials(row()).await;
            }
        })*
    };
}

rows! {
    stripe_events => Row {
        recipe: "stripe", bridge: "stripe-events", vendor: &shops::STRIPE,
        env: &[("STRIPE_SECRET_KEY", "rk_test_stripe")], edits: &[],
        key: |item| format!("evt_{:06}", item.id), pages: Pages::Several, reports: NEW, gone: Gone::Never,
        wrong: ("limit = 100", "limit = 1000", 400), limited: limited::stripe,
    };
    stripe_charges => Row {
        recipe: "stripe", bridge: "stripe-charges", vendor: &shops::STRIPE,
        env: &[("STRIPE_SECRET_KEY", "rk_test_stripe")], edits: &[],
        key: |item| format!("ch_{:06}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("created[gte]", "created_after", 400), limited: limited::stripe,
    };
    paypal_invoices => Row {
        recipe: "paypal", bridge: "paypal-invoices", vendor: &shops::PAYPAL,
        env: &[("PAYPAL_CLIENT_ID", "paypal-id"), ("PAYPAL_CLIENT_SECRET", "paypal-secret")],
        edits: &[("size = 100", "size = 2")],
        key: |item| format!("INV2-{:06}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::At(2),
        wrong: ("param = \"page\"", "param = \"number\"", 400), limited: limited::paypal,
    };
    paypal_transactions => Row {
        recipe: "paypal", bridge: "paypal-transactions", vendor: &shops::PAYPAL,
        env: &[("PAYPAL_CLIENT_ID", "paypal-id"), ("PAYPAL_CLIENT_SECRET", "paypal-secret")],
        edits: &[("size = 500", "size = 2")],
        key: |item| format!("TX{:015}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: (".now[:19] + \"Z\"", ".now[:10]", 400), limited: limited::paypal,
    };
    shopify_orders => Row {
        recipe: "shopify", bridge: "shopify-orders", vendor: &shops::SHOPIFY,
        env: &[("SHOPIFY_TOKEN", "shpat_test")], edits: &[],
        key: |item| (5_000_000_000_u64 + item.id).to_string(), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("limit = 250", "limit = 500", 400), limited: limited::shopify,
    };
    shopify_products => Row {
        recipe: "shopify", bridge: "shopify-products", vendor: &shops::SHOPIFY,
        env: &[("SHOPIFY_TOKEN", "shpat_test")], edits: &[],
        key: |item| (5_000_000_000_u64 + item.id).to_string(), pages: Pages::Several, reports: BOTH, gone: Gone::At(2),
        wrong: ("/2026-07/", "/2026-08/", 400), limited: limited::shopify,
    };
    shopify_graphql => Row {
        recipe: "shopify-graphql", bridge: "shopify-graphql-products", vendor: &shops::SHOPIFY,
        env: &[("SHOPIFY_TOKEN", "shpat_test")], edits: &[],
        key: |item| format!("gid://shopify/Product/{}", item.id), pages: Pages::Several, reports: BOTH,
        gone: Gone::At(2), wrong: ("productType", "kind", 200), limited: limited::shopify_graphql,
    };
    twilio_messages => Row {
        recipe: "twilio", bridge: "twilio-messages", vendor: &people::TWILIO,
        env: &[("TWILIO_AUTH_TOKEN", "twilio-token")], edits: &[],
        key: |item| format!("SM{:032x}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("PageSize = 1000", "PageSize = 1001", 400), limited: limited::twilio,
    };
    twilio_calls => Row {
        recipe: "twilio", bridge: "twilio-calls", vendor: &people::TWILIO,
        env: &[("TWILIO_AUTH_TOKEN", "twilio-token")], edits: &[],
        key: |item| format!("CA{:032x}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("StartTime>", "StartedAfter", 400), limited: limited::twilio,
    };
    slack => Row {
        recipe: "slack", bridge: "slack-channel", vendor: &people::SLACK,
        env: &[("SLACK_BOT_TOKEN", "xoxb-slack")], edits: &[],
        key: |item| format!("{}.{:06}", item.born, item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("limit = 200", "limit = 1000", 400), limited: limited::slack,
    };
    discord => Row {
        recipe: "discord", bridge: "discord-channel", vendor: &people::DISCORD,
        env: &[("DISCORD_BOT_TOKEN", "discord-token")], edits: &[],
        key: |item| people::snowflake(item.id).to_string(), pages: Pages::Several, reports: NEW, gone: Gone::Never,
        wrong: ("limit = 100", "limit = 101", 400), limited: limited::discord,
    };
    trello_cards => Row {
        recipe: "trello", bridge: "trello-cards", vendor: &people::TRELLO,
        env: &[("TRELLO_KEY", "trello-key-0123"), ("TRELLO_TOKEN", "trello-token-4567")], edits: &[],
        key: |item| people::trello_id(item.id), pages: Pages::Several, reports: BOTH, gone: Gone::At(2),
        wrong: ("filter = \"open\"", "filter = \"mine\"", 400), limited: limited::trello,
    };
    trello_actions => Row {
        recipe: "trello", bridge: "trello-actions", vendor: &people::TRELLO,
        env: &[("TRELLO_KEY", "trello-key-0123"), ("TRELLO_TOKEN", "trello-token-4567")], edits: &[],
        key: |item| people::trello_id(item.id), pages: Pages::Several, reports: NEW, gone: Gone::Never,
        wrong: ("limit = 100", "limit = 1001", 400), limited: limited::trello,
    };
    github_issues => Row {
        recipe: "github", bridge: "github-issues", vendor: &people::GITHUB,
        env: &[("GITHUB_TOKEN", "ghp_github")], edits: &[],
        key: |item| item.id.to_string(), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("direction = \"asc\"", "direction = \"up\"", 400), limited: limited::github,
    };
    github_releases => Row {
        recipe: "github", bridge: "github-releases", vendor: &people::GITHUB,
        env: &[("GITHUB_TOKEN", "ghp_github")], edits: &[],
        key: |item| item.id.to_string(), pages: Pages::Several, reports: BOTH, gone: Gone::At(2),
        wrong: ("per_page = 100", "page_size = 100", 400), limited: limited::github,
    };
    github_events => Row {
        recipe: "github", bridge: "github-events", vendor: &people::GITHUB,
        env: &[("GITHUB_TOKEN", "ghp_github")], edits: &[],
        key: |item| item.id.to_string(), pages: Pages::Several, reports: NEW, gone: Gone::Never,
        wrong: ("per_page = 100", "per_page = \"all\"", 400), limited: limited::github,
    };
    instagram_media => Row {
        recipe: "instagram", bridge: "instagram-media", vendor: &people::INSTAGRAM,
        env: &[("INSTAGRAM_TOKEN", "EAAinstagram")], edits: &[],
        key: |item| (17_000_000_000_000_000_u64 + item.id).to_string(), pages: Pages::Several, reports: BOTH,
        gone: Gone::At(2), wrong: ("limit = 100", "limit = 101", 400), limited: limited::instagram,
    };
    instagram_comments => Row {
        recipe: "instagram", bridge: "instagram-comments", vendor: &people::INSTAGRAM,
        env: &[("INSTAGRAM_TOKEN", "EAAinstagram")], edits: &[],
        key: |item| format!("18{:015}", item.id), pages: Pages::One, reports: BOTH, gone: Gone::Never,
        wrong: ("comments{id", "comments(id", 400), limited: limited::instagram,
    };
    x => Row {
        recipe: "x", bridge: "x-mentions", vendor: &people::X,
        env: &[("X_BEARER_TOKEN", "x-token")], edits: &[],
        key: |item| people::snowflake(item.id).to_string(), pages: Pages::Several, reports: NEW, gone: Gone::Never,
        wrong: ("max_results = 100", "max_results = 1000", 400), limited: limited::x,
    };
    openai_batches => Row {
        recipe: "openai", bridge: "openai-batches", vendor: &machines::OPENAI,
        env: &[("OPENAI_API_KEY", "sk-openai")], edits: &[],
        key: |item| format!("batch_{:06}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("limit = 100", "limit = 1000", 400), limited: limited::openai,
    };
    openai_fine_tuning => Row {
        recipe: "openai", bridge: "openai-fine-tuning", vendor: &machines::OPENAI,
        env: &[("OPENAI_API_KEY", "sk-openai")], edits: &[],
        key: |item| format!("ftjob-{:06}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("limit = 100", "limit = \"many\"", 400), limited: limited::openai,
    };
    stability => Row {
        recipe: "stability", bridge: "stability-result", vendor: &machines::STABILITY,
        env: &[("STABILITY_API_KEY", "sk-stability")], edits: &[],
        key: |_| String::new(), pages: Pages::Document, reports: CHANGED, gone: Gone::At(1),
        wrong: ("/results/00000000", "/results/", 400), limited: limited::stability,
    };
    google_place => Row {
        recipe: "google-maps", bridge: "google-maps-place", vendor: &machines::GOOGLE,
        env: &[("GOOGLE_MAPS_KEY", "AIza-google")], edits: &[],
        key: |_| String::new(), pages: Pages::Document, reports: CHANGED, gone: Gone::Untried,
        wrong: ("place_id = ", "place = ", 400), limited: limited::google,
    };
    google_nearby => Row {
        recipe: "google-maps", bridge: "google-maps-nearby", vendor: &machines::GOOGLE,
        env: &[("GOOGLE_MAPS_KEY", "AIza-google")], edits: &[("delay = \"2s\"", "delay = \"1ms\"")],
        key: |item| format!("ChIJ{:06}", item.id), pages: Pages::Several, reports: BOTH, gone: Gone::Never,
        wrong: ("radius = 1500", "radius = \"far\"", 400), limited: limited::google,
    };
    weather_now => Row {
        recipe: "weather", bridge: "weather-now", vendor: &machines::WEATHER,
        env: &[("OPENWEATHER_KEY", "openweather-key")], edits: &[],
        key: |_| String::new(), pages: Pages::Document, reports: CHANGED, gone: Gone::Untried,
        wrong: ("lat = 52.52", "lat = 152.52", 400), limited: limited::weather,
    };
    weather_forecast => Row {
        recipe: "weather", bridge: "weather-forecast", vendor: &machines::WEATHER,
        env: &[("OPENWEATHER_KEY", "openweather-key")], edits: &[],
        key: |item| item.born.to_string(), pages: Pages::One, reports: BOTH, gone: Gone::Never,
        wrong: ("units = \"metric\"", "units = \"celsius\"", 400), limited: limited::weather,
    };
    amadeus => Row {
        recipe: "amadeus", bridge: "amadeus-offers", vendor: &shops::AMADEUS,
        env: &[("AMADEUS_CLIENT_ID", "amadeus-id"), ("AMADEUS_CLIENT_SECRET", "amadeus-secret")], edits: &[],
        key: |item| format!("QF{} 2027-05-02T10:00:00", 100 + item.id), pages: Pages::One, reports: BOTH,
        gone: Gone::At(3), wrong: ("adults = 1", "adults = 10", 400), limited: limited::amadeus,
    };
    sabre => Row {
        recipe: "sabre", bridge: "sabre-offers", vendor: &soap::SABRE,
        env: &[("SABRE_SESSION_CREATE", soap::SABRE_SESSION_CREATE)], edits: &[],
        key: |item| format!("AA{} {}", soap::flight(item.id).0, soap::flight(item.id).1), pages: Pages::One,
        reports: BOTH, gone: Gone::At(3), wrong: (" Version=\"6.1.0\"", "", 400), limited: limited::soap,
    };
    travelport => Row {
        recipe: "travelport", bridge: "travelport-offers", vendor: &soap::TRAVELPORT,
        env: &[("TRAVELPORT_USER", "Universal API/uAPI123"), ("TRAVELPORT_PASSWORD", "travelport-password")],
        edits: &[],
        key: |item| format!("UA{} {}", soap::flight(item.id).0, soap::flight(item.id).1), pages: Pages::One,
        reports: BOTH, gone: Gone::At(3), wrong: (" TargetBranch=\"P1234567\"", "", 400), limited: limited::soap,
    };
    supertokens => Row {
        recipe: "supertokens", bridge: "supertokens-users", vendor: &people::SUPERTOKENS,
        env: &[("SUPERTOKENS_API_KEY", "supertokens-key")], edits: &[],
        key: |item| format!("user-{}", item.id), pages: Pages::Several, reports: NEW, gone: Gone::Never,
        wrong: ("\"DESC\"", "\"DOWN\"", 400), limited: limited::supertokens,
    };
    datadog => Row {
        recipe: "datadog", bridge: "datadog-monitors", vendor: &machines::DATADOG,
        env: &[("DD_API_KEY", "dd-api-key-1"), ("DD_APP_KEY", "dd-app-key-2")],
        edits: &[("size = 100", "size = 2")],
        key: |item| item.id.to_string(), pages: Pages::Several, reports: BOTH, gone: Gone::At(2),
        wrong: ("size-param = \"page_size\"", "size-param = \"per_page\"", 400), limited: limited::datadog,
    };
    soap_bank => Row {
        recipe: "soap-bank", bridge: "bank-transactions", vendor: &soap::BANK,
        env: &[("BANK_USER", "reader"), ("BANK_PASSWORD", "bank-password")], edits: &[],
        key: |item| format!("TX{:06}", item.id), pages: Pages::One, reports: BOTH, gone: Gone::Never,
        wrong: ("<st:Days>30</st:Days>", "", 400), limited: limited::bank,
    };
}
