//! Exposition formats for metrics: OpenMetrics 1.0 and the Prometheus text format 0.0.4.
//!
//! The metrics library writes OpenMetrics. The Prometheus text is derived from it line by line:
//! samples are the same in both formats, only the descriptions differ. Exemplars and timestamps
//! differ too, but the gateway exposes none.

/// A text format for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The Prometheus text format, version 0.0.4, which every scraper reads.
    PrometheusText,
}

impl Exposition {
    /// The value of `Content-Type` for this format.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::PrometheusText => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Converts OpenMetrics to the Prometheus text format.
///
/// In the Prometheus text a counter's family is named like its samples, with `_total`. Units and
/// the end mark do not exist, and the type `unknown` is called `untyped`.
pub(super) fn prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + open_metrics.len() / 16);
    // The HELP line comes before the TYPE line, but the family's name in it depends on the type.
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(_, help)| help);
        } else if let Some((family, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            let help = help.take().unwrap_or_default();
            text.extend(["# HELP ", family, suffix, " ", help, "\n# TYPE ", family, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_converted_and_samples_kept() {
        let open_metrics = "\
# HELP a_seconds Time.
# TYPE a_seconds counter
# UNIT a_seconds seconds
a_seconds_total{r=\"# TYPE x counter\"} 1.5
# HELP b Level.
# TYPE b gauge
b 2
# HELP c Anything.
# TYPE c unknown
c 3
# EOF
";
        let expect = "\
# HELP a_seconds_total Time.
# TYPE a_seconds_total counter
a_seconds_total{r=\"# TYPE x counter\"} 1.5
# HELP b Level.
# TYPE b gauge
b 2
# HELP c Anything.
# TYPE c untyped
c 3
";
        assert_eq!(prometheus_text(open_metrics), expect);
    }
}
