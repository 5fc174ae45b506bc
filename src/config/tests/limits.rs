//! What may be said of tenants' limits.

use super::*;

/// A limit with these lines; the first is line 2.
fn limit(lines: &str) -> String {
    format!("[[limit]]\n{lines}\n")
}

#[test]
fn faults_of_a_limit_are_told() {
    each(&[
        (&limit("requests = 1"), "1: limit.by:", "missing; write by = \"endpoint\", \"principal\" or \"source\""),
        (&limit("by = 'user'"), "2: limit.by:", "\"user\" tells no tenants apart; write \"endpoint\", \"principal\" or \"source\""),
        (&limit("by = 'source'"), "2: limit.by:", "this limits nothing; write requests, bytes, connections or downloads"),
        (
            &limit("by = 'source'\nrequests = 1\nof = ['aws:*']"),
            "4: limit.of:",
            "\"aws:*\" is not a network; write an address and a prefix length, such as \"10.0.0.0/8\"",
        ),
        (
            &limit("by = 'endpoint'\nrequests = 1\nof = []"),
            "4: limit.of:",
            "an empty list matches nothing; leave the key out to match everything",
        ),
        (&limit("by = 'endpoint'\nrequests = 0"), "3: limit.requests:", "0 is not a number of 1 or more; write a larger number"),
        (&limit("by = 'endpoint'\nrequests = 1").repeat(101), "302: limit.by:", "more than 100 limits; say the same with fewer"),
    ]);
}

#[test]
fn a_limit_of_nobody_is_warned_of() {
    for (by, of, told) in [
        ("endpoint", "vpce-1", Some("\"vpce-1\" is no endpoint of this proxy")),
        ("endpoint", "default", None),
        ("endpoint", "aws:*", None),
        ("principal", "ci", Some("\"ci\" is nobody's name")),
        ("principal", "user:c?", None),
        ("principal", "anonymous", None),
        ("source", "10.1.2.3", None),
    ] {
        let warned = warnings(&limit(&format!("by = '{by}'\nof = ['{of}']\nrequests = 1")));
        let expected: Vec<_> =
            told.map(|told| format!("roadstead.toml:3: limit.of: {told}, so it never matches;")).into_iter().collect();
        let fits = warned.len() == expected.len() && warned.iter().zip(&expected).all(|(warned, told)| warned.starts_with(told));
        assert!(fits, "{of}: {warned:?}");
    }
}

#[test]
fn limits_read_back_as_the_same() {
    let text = [
        limit("by = 'endpoint'\nof = ['aws:*', 'default']\nrequests = 5\nbytes = '10 MiB'"),
        limit("by = 'principal'\nconnections = 3"),
        limit("by = 'source'\nof = ['10.1.2.3', '::ffff:10.2.0.0/112', 'fd00::/8']\ndownloads = 2"),
    ];
    let config = good(&text.concat());
    let again = good(&config.effective().to_string());
    assert_eq!(again.limits, config.limits);
    let of = |number: usize| config.limits[number].of.as_ref().map(Of::texts).unwrap_or_default();
    assert_eq!((of(0), of(1)), (vec!["aws:*".to_owned(), "default".to_owned()], Vec::new()));
    assert_eq!(of(2), ["10.1.2.3/32", "10.2.0.0/16", "fd00::/8"]);
}
