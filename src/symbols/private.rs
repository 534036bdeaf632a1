//! Names that are private to a class.

/// What a class has under a name that is private to it: `__step`, in the body of `Engine`, is `_Engine__step`. None:
/// the name is not a private one.
pub fn mangled(class: &str, name: &str) -> Option<String> {
    let class = class.trim_start_matches('_');
    let is_private = name.starts_with("__") && !name.ends_with("__");
    (is_private && !class.is_empty()).then(|| format!("_{class}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_name_has_that_of_its_class_without_leading_underscores() {
        for (class, name, expected) in [
            ("Engine", "__step", Some("_Engine__step")),
            ("__Engine_", "__step_", Some("_Engine___step_")),
            ("Engine", "__init__", None),
            ("Engine", "_step", None),
            ("Engine", "__", None),
            ("__", "__step", None),
        ] {
            assert_eq!(mangled(class, name).as_deref(), expected, "{class}.{name}");
        }
    }
}
