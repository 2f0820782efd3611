#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn envs(name: &str) -> Option<String> {
    match name {
        "NAME" => Some("value".to_owned()),
        "EMPTY" => Some(String::new()),
        "PORTS" => Some("6000-6002".to_owned()),
        _ => None,
    }
}

fn rendered(text: &str) -> String {
    match render(text, &envs) {
        Ok(rendered) => rendered.text,
        Err(error) => panic!("{text}: {error:?}"),
    }
}

#[test]
fn renders_what_go_renders() {
    for (text, expected) in [
        ("plain }} text", "plain }} text"),
        ("{{ .Envs.NAME }}", "value"),
        ("{{.Envs.NAME}}", "value"),
        ("{{ $.Envs.NAME }}", "value"),
        ("{{ (.Envs).NAME }}", "value"),
        ("{{ .Envs.NOPE }}", "<no value>"),
        ("{{ index .Envs \"NOPE\" }}", ""),
        ("{{ index .Envs \"NAME\" }}", "value"),
        ("a  {{- \"b\" -}}  c", "abc"),
        ("a {{ \"b\" }} c", "a b c"),
        ("a {{- /* note */ -}} b", "ab"),
        ("a {{/* note */}} b", "a  b"),
        ("{{ `{{ raw }}` }}", "{{ raw }}"),
        ("{{ \"a\\tb\\u00e9\\\"\" }}", "a\tbé\""),
        ("{{ parseNumberRange \"1-3,7\" }}", "[1 2 3 7]"),
        (
            "{{ parseNumberRangePair \"1-2\" \"3-4\" }}",
            "[{1 3} {2 4}]",
        ),
        (
            "{{ range parseNumberRange .Envs.PORTS }}{{ . }};{{ end }}",
            "6000;6001;6002;",
        ),
        (
            "{{ range $v := parseNumberRange \"1-2\" }}{{ $v }}{{ end }}",
            "12",
        ),
        (
            "{{ range $i, $v := parseNumberRange \"5-6\" }}{{ $i }}={{ $v }} {{ end }}",
            "0=5 1=6 ",
        ),
        (
            "{{ range $_, $v := parseNumberRangePair \"1-2\" \"8-9\" }}\
             {{ $v.First }}:{{ $v.Second }} {{ end }}",
            "1:8 2:9 ",
        ),
        (
            "{{ range parseNumberRangePair \"1\" \"2\" }}{{ .First }}{{ .Second }}{{ end }}",
            "12",
        ),
        ("{{ range .Envs.NOPE }}x{{ else }}none{{ end }}", "none"),
        ("{{ range 3 }}{{ . }}{{ end }}", "012"),
        ("{{ if .Envs.NOPE }}a{{ else }}b{{ end }}", "b"),
        (
            "{{ if .Envs.EMPTY }}a{{ else if .Envs.NAME }}b{{ else }}c{{ end }}",
            "b",
        ),
        ("{{ if eq .Envs.NAME \"value\" }}a{{ end }}", "a"),
        ("{{ if eq .Envs.NOPE \"value\" }}a{{ end }}", ""),
        ("{{ if eq 2 1 2 3 }}a{{ end }}", "a"),
        ("{{ if and .Envs.NAME (ne 1 2) }}a{{ end }}", "a"),
        ("{{ or .Envs.NOPE \"fallback\" }}", "fallback"),
        ("{{ and 0 1 }}", "0"),
        ("{{ not true }} {{ not .Envs.NOPE }}", "false true"),
        (
            "{{ lt 1 2 }} {{ le 2 2 }} {{ gt 1 2 }} {{ ge \"b\" \"a\" }}",
            "true true false true",
        ),
        (
            "{{ len \"abc\" }} {{ len (parseNumberRange \"1-5\") }}",
            "3 5",
        ),
        ("{{ index (parseNumberRange \"5-9\") 2 }}", "7"),
        ("{{ with .Envs.NAME }}{{ . }}{{ else }}no{{ end }}", "value"),
        ("{{ with $x := .Envs.NAME }}{{ $x }}{{ end }}", "value"),
        (
            "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}",
            "2",
        ),
        (
            "{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ end }}{{ $x }}",
            "1",
        ),
        ("{{ .Envs.NAME | printf \"<%s>\" }}", "<value>"),
        ("{{ \"a\" | printf \"%s%s\" \"b\" | print \"c\" }}", "cba"),
        (
            "{{ printf \"%d-%05d|%4d|%-4d|%+d\" 5 42 7 8 9 }}",
            "5-00042|   7|8   |+9",
        ),
        (
            "{{ printf \"%v %v %q %x %X %t %%\" 1 true \"x\" 255 255 false }}",
            "1 true \"x\" ff FF false %",
        ),
        ("{{ printf \"%05d\" -42 }}", "-0042"),
        ("{{ print \"a\" 1 2 \"b\" true false }}", "a1 2btrue false"),
        ("{{ println 1 \"a\" }}", "1 a\n"),
        (
            "{{if true}}{{range 2}}{{if .}}x{{else}}y{{end}}{{end}}{{end}}",
            "yx",
        ),
    ] {
        assert_eq!(rendered(text), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, at, expected) in [
        (
            "ab {{ .Foo }}",
            6,
            "can't evaluate field Foo in type *config.Values",
        ),
        ("{{ foo 1 }}", 3, "function \"foo\" not defined"),
        ("{{ html 1 }}", 3, "function \"html\" is not supported here"),
        ("{{ .Envs.NAME", 0, "unclosed action"),
        ("{{ }}", 0, "missing value for command"),
        ("{{ range }}{{ end }}", 0, "missing value for range"),
        ("{{ if true }}", 0, "{{if}} has no {{end}}"),
        ("{{ end }}", 0, "unexpected {{end}}"),
        ("{{ else }}", 0, "unexpected {{else}}"),
        (
            "{{ if true }}{{ else }}{{ else }}{{ end }}",
            23,
            "unexpected {{else}}",
        ),
        ("{{ $x }}", 3, "undefined variable \"$x\""),
        (
            "{{ if true }}{{ $x := 1 }}{{ end }}{{ $x }}",
            38,
            "undefined variable \"$x\"",
        ),
        (
            "{{ template \"x\" }}",
            0,
            "{{template}} is not supported here",
        ),
        (
            "{{ define \"x\" }}{{ end }}",
            0,
            "{{define}} is not supported here",
        ),
        ("{{ break }}", 0, "{{break}} is not supported here"),
        (
            "{{ .Envs }}",
            0,
            "printing all of the environment is not supported here",
        ),
        ("{{ \"a }}", 3, "unterminated quoted string"),
        ("{{ `a }}", 3, "unterminated raw quoted string"),
        ("{{/* a }}", 0, "unclosed comment"),
        ("{{/* a */ b }}", 0, "comment ends before closing delimiter"),
        ("{{ 1x }}", 3, "bad number syntax: \"1x\""),
        ("{{ 'a' }}", 3, "character constants are not supported here"),
        ("{{ (1 }}", 3, "unclosed left paren"),
        ("{{ 1 2 }}", 3, "can't give argument to non-function"),
        ("{{ 1 | 2 }}", 7, "non executable command in pipeline"),
        (
            "{{ parseNumberRange .Envs.NOPE }}",
            3,
            "invalid value; expected string",
        ),
        (
            "{{ parseNumberRange 5 }}",
            3,
            "wrong type for value; expected string; got int64",
        ),
        (
            "{{ parseNumberRange \"3-1\" }}",
            3,
            "range number is invalid",
        ),
        (
            "{{ parseNumberRange \"1-x\" }}",
            3,
            "range number is invalid, strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "{{ parseNumberRangePair \"1-2\" \"1-3\" }}",
            3,
            "first and second range numbers are not in pairs",
        ),
        (
            "{{ parseNumberRange \"1-9999999\" }}",
            3,
            "more than 131072 numbers in a range",
        ),
        (
            "{{ range .Envs.NAME }}{{ end }}",
            0,
            "range can't iterate over string",
        ),
        ("{{ eq 1 \"a\" }}", 3, "incompatible types for comparison"),
        ("{{ eq 1 }}", 3, "wrong number of args"),
        (
            "{{ index (parseNumberRange \"1\") 5 }}",
            3,
            "index out of range: 5",
        ),
        (
            "{{ printf \"%d\" \"x\" }}",
            3,
            "printf: %d of a value of type string",
        ),
    ] {
        let error = render(text, &envs).unwrap_err();
        assert_eq!((error.at, error.message.as_str()), (at, expected), "{text}");
    }
}

#[test]
fn neither_output_nor_time_nor_depth_is_without_bound() {
    let nested = "{{ range parseNumberRange \"1-100000\" }}".repeat(3)
        + "0123456789"
        + &"{{ end }}".repeat(3);
    assert!(render(&nested, &envs).is_err());
    let empty = "{{ range parseNumberRange \"1-100000\" }}".repeat(3) + &"{{ end }}".repeat(3);
    assert_eq!(
        render(&empty, &envs).unwrap_err().message,
        "the template runs for too long"
    );
    let deep = "{{ if true }}".repeat(100_000);
    assert_eq!(
        render(&deep, &envs).unwrap_err().message,
        "blocks are nested too deeply"
    );
    let deep = format!("{{{{ {} }}}}", "(".repeat(100_000));
    assert_eq!(
        render(&deep, &envs).unwrap_err().message,
        "blocks are nested too deeply"
    );
    let chain = "{{ if false }}".to_owned() + &"{{ else if false }}".repeat(100_000) + "{{ end }}";
    assert_eq!(
        render(&chain, &envs).unwrap_err().message,
        "blocks are nested too deeply"
    );
}

#[test]
fn each_stretch_of_the_output_knows_where_it_comes_from() {
    let text = "ab{{ range parseNumberRange \"1-2\" }}c{{ . }}{{ end }}d";
    let rendered = render(text, &envs).unwrap();

    assert_eq!(rendered.text, "abc1c2d");
    let of = |rendered, original, copied| Segment {
        rendered,
        original,
        copied,
    };
    let (c, dot, d) = (36, 37, 53);
    assert_eq!(
        rendered.segments,
        [
            of(0, 0, true),
            of(2, c, true),
            of(3, dot, false),
            of(4, c, true),
            of(5, dot, false),
            of(6, d, true),
        ]
    );
}

proptest! {
    #[test]
    fn no_text_upsets_it(text in "\\PC{0,64}") {
        let _ = render(&text, &envs);
    }

    #[test]
    fn no_mixture_of_tokens_upsets_it(tokens in proptest::collection::vec(
        proptest::sample::select(vec![
            "{{", "}}", "{{-", " -}}", " ", "if", "else", "end", "range", "with", "$x", "$", ".",
            ".Envs", ".NAME", ":=", "=", ",", "|", "(", ")", "\"", "`", "1", "-", "true", "nil",
            "printf", "\"%d\"", "eq", "and", "parseNumberRange", "\"1-3\"", "/*", "*/", "\\u",
            "é", "\n", "{{ end }}", "{{ else }}", "{{ if 1 }}", "{{ . }}",
        ]),
        0..24,
    )) {
        let _ = render(&tokens.concat(), &envs);
    }

    #[test]
    fn text_without_actions_stays_as_it_is(text in "[^{]{0,64}") {
        prop_assert_eq!(rendered(&text), text);
    }
}
