//! Numbers as people read them: on pages and on screens.

/// A whole number with thousands separators.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number format as it is written: `FP32`, but `border`.
pub fn precision(name: &str) -> String {
    if name.contains(|c: char| c.is_ascii_digit()) { name.to_uppercase() } else { name.to_string() }
}

/// Three significant digits; from 1000 on, a whole number with separators; `e` notation below 0.001.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_string();
    }
    let size = value.abs();
    let sign = if value < 0.0 { "−" } else { "" };
    if size == 0.0 {
        return "0".to_string();
    }
    if size >= 999.5 {
        return format!("{sign}{}", count(size.round() as u64));
    }
    if size < 0.001 {
        return format!("{sign}{}", format!("{size:.2e}").replace("e-", "e−"));
    }
    let rounded: f64 = format!("{size:.2e}").parse().unwrap_or(size);
    let decimals = (2 - rounded.log10().floor() as i32).max(0) as usize;
    format!("{sign}{rounded:.decimals$}")
}

/// An optional [`number`]; a dash where there is none.
pub fn number_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_string(), number)
}

/// A fraction in per cent with one decimal, never rounded up to 100 or down to 0.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if !value.is_finite() {
        return "–".to_string();
    }
    if value == 100.0 || value == 0.0 {
        return format!("{value:.0}\u{a0}%");
    }
    let text = format!("{value:.1}");
    match text.as_str() {
        "100.0" => "> 99.9\u{a0}%".to_string(),
        "0.0" | "-0.0" => "< 0.1\u{a0}%".to_string(),
        _ => format!("{}\u{a0}%", text.replace('-', "−")),
    }
}

/// A difference of two shares in percentage points, with its sign.
pub fn points(difference: f64) -> String {
    let text = format!("{:.1}", difference.abs() * 100.0);
    match (text.as_str(), difference < 0.0) {
        ("0.0", _) => "0.0".to_string(),
        (text, true) => format!("−{text}"),
        (text, false) => format!("+{text}"),
    }
}

/// A ratio, such as `3.23×`.
pub fn times(ratio: f64) -> String {
    format!("{}×", number(ratio))
}

/// A size in decimal units.
pub fn bytes(size: u64) -> String {
    let value = size as f64;
    match size {
        0..1_000 => format!("{size} B"),
        1_000..1_000_000 => format!("{} kB", number(value / 1e3)),
        1_000_000..1_000_000_000 => format!("{} MB", number(value / 1e6)),
        _ => format!("{} GB", number(value / 1e9)),
    }
}

/// Multiply-accumulates, in thousands, millions or thousand millions.
pub fn macs(value: u64) -> String {
    match value {
        0 => "–".to_string(),
        1..1_000_000 => format!("{} k", number(value as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} M", number(value as f64 / 1e6)),
        _ => format!("{} G", number(value as f64 / 1e9)),
    }
}

/// The name of a class, shortened to its first synonym, or `#index`.
pub fn class_name(classes: &[String], class: u32) -> String {
    match classes.get(class as usize) {
        Some(name) => name.split(',').next().unwrap_or(name).trim().to_string(),
        None => format!("#{class}"),
    }
}

/// `1 image`, `2 images`.
pub fn plural(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", count(n)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        let cases = [
            (0.0, "0"),
            (331.04, "331"),
            (3.2345, "3.23"),
            (9.999, "10.0"),
            (0.041_234, "0.0412"),
            (0.000_012_34, "1.23e−5"),
            (12_345.6, "12,346"),
            (999.7, "1,000"),
            (-2.5, "−2.50"),
            (f64::NAN, "–"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!((count(0), count(999), count(1_234_567)), ("0".into(), "999".into(), "1,234,567".into()));
    }

    #[test]
    fn shares_are_never_rounded_to_certainty() {
        let cases =
            [(1.0, "100 %"), (0.9999, "> 99.9 %"), (0.967, "96.7 %"), (0.0001, "< 0.1 %"), (0.0, "0 %")];
        for (share, text) in cases {
            assert_eq!(percent(share).replace('\u{a0}', " "), text);
        }
        assert_eq!(
            (points(0.004), points(-0.013), points(0.0001)),
            ("+0.4".into(), "−1.3".into(), "0.0".into())
        );
    }

    #[test]
    fn sizes_and_classes() {
        assert_eq!(
            (bytes(999), bytes(13_300_000), macs(10_838_016)),
            ("999 B".into(), "13.3 MB".into(), "10.8 M".into())
        );
        let classes = ["tench, Tinca tinca".to_string()];
        assert_eq!((class_name(&classes, 0), class_name(&classes, 7)), ("tench".into(), "#7".into()));
    }
}
