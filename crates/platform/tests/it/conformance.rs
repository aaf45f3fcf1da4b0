//! Whether answers have the shape that Heroku publishes: every property there, of its type, and none beside them.
//!
//! The facts are `crates/api/heroku`. [`TestPlatform::api`] holds every answer of every test against them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

const LINKS: &str = include_str!("../../../api/heroku/links.txt");
const PROPERTIES: &str = include_str!("../../../api/heroku/properties.txt");
const REQUESTS: &str = include_str!("../../../api/heroku/requests.txt");

/// The two forms in which a resource is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// `Accept: application/vnd.heroku+json; version=3`
    Three,
    /// `version=3.sdk`
    Sdk,
}

impl Form {
    pub(crate) const fn accept(self) -> &'static str {
        match self {
            Self::Three => "application/vnd.heroku+json; version=3",
            Self::Sdk => "application/vnd.heroku+json; version=3.sdk",
        }
    }

    fn is_of(self, media: &str) -> bool {
        media == "*" || (media == "3") == (self == Self::Three)
    }
}

/// One request that Heroku's API knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    media: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// The resource, in brackets for a list of it.
    pub(crate) answer: &'static str,
    pub(crate) title: &'static str,
}

impl Link {
    pub(crate) fn is_of(&self, form: Form) -> bool {
        form.is_of(self.media)
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        let same = |(pattern, segment): (&str, &str)| pattern.starts_with('{') || pattern == segment;
        self.method == method
            && self.path.split('/').count() == path.split('/').count()
            && self.path.split('/').zip(path.split('/')).all(same)
    }

    /// Names in a path before placeholders.
    fn placeholders(&self) -> usize {
        self.path.matches('{').count()
    }
}

pub(crate) static ALL_LINKS: LazyLock<Vec<Link>> = LazyLock::new(|| {
    let fact = |line: &'static str| {
        let mut parts = line.splitn(5, ' ');
        let mut next = || parts.next().unwrap();
        Link { media: next(), method: next(), path: next(), answer: next(), title: next() }
    };
    facts(LINKS).map(fact).collect()
});

/// The link that a request means; `None` for paths of our own and of Heroku's other hosts.
pub(crate) fn link_of(form: Form, method: &str, path: &str) -> Option<&'static Link> {
    let path = path.split('?').next().unwrap();
    let fitting = ALL_LINKS.iter().filter(|link| link.is_of(form) && link.matches(method, path));
    fitting.min_by_key(|link| link.placeholders())
}

/// Properties that the schema does not have and Heroku's clients show all the same.
const EXTRA: [&str; 2] = ["pipeline-coupling.pipeline.name", "sni-endpoint.ssl_cert.acm"];

#[derive(Debug, Default)]
struct Shape {
    /// Empty where anything goes.
    types: Vec<&'static str>,
    values: Option<Vec<&'static str>>,
    deprecated: bool,
    properties: BTreeMap<&'static str, Shape>,
}

static SHAPES: LazyLock<[Shape; 2]> = LazyLock::new(|| [shapes(Form::Three), shapes(Form::Sdk)]);

fn shapes(form: Form) -> Shape {
    let mut root = Shape::default();
    for line in facts(PROPERTIES) {
        let mut parts = line.split(' ');
        if !form.is_of(parts.next().unwrap()) {
            continue;
        }
        let path = parts.next().unwrap();
        let mut shape = &mut root;
        for name in path.split('.').flat_map(|name| match name.strip_suffix("[]") {
            Some(list) => vec![list, "[]"],
            None => vec![name],
        }) {
            shape = shape.properties.entry(name).or_default();
        }
        shape.types = parts.next().unwrap().split('|').collect();
        for more in parts {
            match more.strip_prefix('=') {
                Some(values) => shape.values = Some(values.split(',').collect()),
                None => shape.deprecated = more == "deprecated",
            }
        }
    }
    root
}

fn facts(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

/// A field of a request's body.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// `source_blob.url`, `updates[].quantity`; `*` stands for any name.
    pub(crate) path: &'static str,
    pub(crate) types: Vec<&'static str>,
    pub(crate) required: bool,
}

/// The bodies that requests may have, by method and path.
pub(crate) static BODIES: LazyLock<BTreeMap<(&str, &str), Vec<Field>>> = LazyLock::new(|| {
    let mut bodies: BTreeMap<(&str, &str), Vec<Field>> = BTreeMap::new();
    for line in facts(REQUESTS) {
        let mut parts = line.split(' ');
        let mut next = || parts.next().unwrap();
        let (method, url, path, types) = (next(), next(), next(), next().split('|').collect());
        bodies.entry((method, url)).or_default().push(Field { path, types, required: parts.next() == Some("!") });
    }
    bodies
});

/// What is wrong with an answer; nothing if its resource has no known shape.
pub(crate) fn complaints(form: Form, link: &Link, answer: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let resource = link.answer.trim_matches(['[', ']']);
    let Some(shape) = SHAPES[usize::from(form == Form::Sdk)].properties.get(resource) else { return found };
    match (link.answer.starts_with('['), answer) {
        (true, Value::Array(items)) => items.iter().for_each(|item| compare(resource, shape, item, &mut found)),
        (true, other) => found.push(format!("{resource}: not a list: {other}")),
        (false, one) => compare(resource, shape, one, &mut found),
    }
    found.sort();
    found.dedup();
    found
}

fn compare(path: &str, shape: &Shape, value: &Value, found: &mut Vec<String>) {
    if !shape.types.iter().any(|wanted| is_a(wanted, value)) {
        found.push(format!("{path}: {value} is no {}", shape.types.join(" or ")));
        return;
    }
    if let (Some(values), Value::String(text)) = (&shape.values, value)
        && !values.contains(&text.as_str())
    {
        found.push(format!("{path}: {text:?} is none of {values:?}"));
    }
    match value {
        Value::Object(fields) if !shape.properties.is_empty() => {
            let any = shape.properties.get("*");
            for (name, field) in fields {
                match shape.properties.get(name.as_str()).or(any) {
                    Some(shape) => compare(&format!("{path}.{name}"), shape, field, found),
                    None if EXTRA.contains(&format!("{path}.{name}").as_str()) => {}
                    None => found.push(format!("{path}.{name}: no such property")),
                }
            }
            for (name, property) in &shape.properties {
                if *name != "*" && !property.deprecated && !fields.contains_key(*name) {
                    found.push(format!("{path}.{name}: missing"));
                }
            }
        }
        Value::Array(items) => {
            if let Some(shape) = shape.properties.get("[]") {
                items.iter().for_each(|item| compare(&format!("{path}[]"), shape, item, found));
            }
        }
        _leaf => {}
    }
}

fn is_a(wanted: &str, value: &Value) -> bool {
    match wanted {
        "any" => true,
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "uuid" => value.as_str().is_some_and(|text| text.len() == 36 && text.split('-').count() == 5),
        // Whole seconds, UTC: as Heroku writes them.
        "date-time" => value.as_str().is_some_and(|text| text.len() == 20 && text.ends_with('Z')),
        "object" => value.is_object(),
        "array" => value.is_array(),
        unknown => panic!("unknown type {unknown}"),
    }
}

#[test]
fn answers_are_held_against_the_facts() {
    use serde_json::json;

    let link = link_of(Form::Three, "GET", "/apps/shop/pipeline-couplings").unwrap();
    assert_eq!(link.path, "/apps/{app}/pipeline-couplings");
    let id = "01234567-89ab-cdef-0123-456789abcdef";
    let mut answer = json!({
        "app": {"id": id}, "created_at": "2026-01-01T00:00:00Z", "id": id, "pipeline": {"id": id},
        "stage": "production", "updated_at": "2026-01-01T00:00:00Z",
    });
    assert_eq!(complaints(Form::Three, link, &answer), Vec::<String>::new());
    answer["stage"] = json!("attic");
    answer["created_at"] = json!(12);
    answer["extra"] = json!(true);
    answer["app"] = json!({});
    let found = complaints(Form::Three, link, &answer);
    assert_eq!(found.len(), 4, "{found:#?}");
}
