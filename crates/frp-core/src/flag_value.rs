//! Values of flags that both programs take.

use std::time::Duration;

/// A switch's value, in the forms Go accepts. The error is Go's.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing \"{text}\": invalid syntax"
        )),
    }
}

/// Seconds with a fraction: between two looks at a program, or for its answer.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if time < MIN_SECONDS {
        return Err(format!("at least {} s", MIN_SECONDS.as_secs_f64()));
    }
    Ok(time)
}

/// Looking more often would be work for the program that is looked at.
const MIN_SECONDS: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_spelled_as_in_go() {
        assert_eq!(parse_bool("T"), Ok(true));
        assert_eq!(parse_bool("0"), Ok(false));
        let error = parse_bool("yes");
        let expected = "strconv.ParseBool: parsing \"yes\": invalid syntax";
        assert_eq!(error, Err(expected.to_owned()));
    }

    #[test]
    fn looks_are_not_too_close_together() {
        assert_eq!(parse_seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_seconds("0.1"), Err("at least 0.2 s".to_owned()));
        assert!(parse_seconds("-1").is_err());
        assert!(parse_seconds("soon").is_err());
    }
}
