//! Prometheus' text format 0.0.4, for who does not ask for OpenMetrics.

/// The same metrics. A counter is called there as its series are, with `_total`; units and the end are not told.
pub fn plain(openmetrics: &str) -> String {
    let counters: Vec<&str> =
        openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut out = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let about = line.strip_prefix("# ").and_then(|about| about.split_once(' '));
        let about = about.and_then(|(what, about)| Some((what, about.split_once(' ')?)));
        match about {
            Some((what, (name, rest))) if counters.contains(&name) => {
                out.push_str(&format!("# {what} {name}_total {rest}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// Whether who asks would rather have OpenMetrics (RFC 9110, section 12.5.1). Who says nothing, or takes anything, may be an old
/// scraper.
pub fn wants_openmetrics(accept: &str) -> bool {
    let weight = |name: &str| {
        let offers = accept.split(',').map(|offer| offer.split(';').map(str::trim));
        let weights = offers.filter_map(|mut offer| {
            let is_it = offer.next().is_some_and(|kind| kind.eq_ignore_ascii_case(name));
            let q = offer.find_map(|parameter| parameter.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
            q.filter(|_| is_it)
        });
        weights.fold(0.0, f64::max)
    };
    let openmetrics = weight("application/openmetrics-text");
    openmetrics > 0.0 && openmetrics >= weight("text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Prometheus 2.42, Prometheus 3, VictoriaMetrics, Telegraf, curl and a browser send.
    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        for (accept, wants) in [
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                true,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                true,
            ),
            ("Application/OpenMetrics-Text; version=1.0.0; charset=utf-8", true),
            ("text/plain;version=0.0.4;q=1,*/*;q=0.1", false),
            ("text/plain;version=0.0.4, application/openmetrics-text;q=0.5", false),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=much", false),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("*/*", false),
            ("", false),
        ] {
            assert_eq!(wants_openmetrics(accept), wants, "{accept}");
        }
    }

    #[test]
    fn counters_are_called_as_their_series_are() {
        let text = "# HELP a_b Some, of \"each\".\n# TYPE a_b counter\n# UNIT a_b bytes\na_b_total{x=\"# TYPE a_b counter\"} 1\n\
                    # HELP a_b_c Others.\n# TYPE a_b_c gauge\na_b_c 2\n# HELP e Empty.\n# TYPE e histogram\n# EOF\n";
        let expected = "# HELP a_b_total Some, of \"each\".\n# TYPE a_b_total counter\na_b_total{x=\"# TYPE a_b counter\"} 1\n\
                        # HELP a_b_c Others.\n# TYPE a_b_c gauge\na_b_c 2\n# HELP e Empty.\n# TYPE e histogram\n";
        assert_eq!(plain(text), expected);
    }
}
