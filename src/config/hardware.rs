//! Keys that steer profiling of accelerator hardware in other profilers. Files in use have them, so their values are
//! checked like any other; none has an effect here.

use serde_json::Value;

/// A key, what it can have, and what its default is called in messages.
pub(super) struct HardwareKey {
    pub(super) name: &'static str,
    pub(super) expected: &'static str,
    pub(super) default: &'static str,
    kind: Kind,
}

enum Kind {
    /// An integer from 0 to the limit; 0 is off.
    Switch(i64),
    /// `L0` or `L1`, which may be followed by `;` and a number of seconds.
    TaskTimeLevel,
    /// A list of words separated by commas, each of which must be known.
    WordList(&'static [&'static str]),
    /// One of these words, in any case.
    Word(&'static [&'static str]),
    /// Any text.
    Text,
    /// Samples a second: -1 is off.
    Frequency,
    Bool,
    /// Any integer; positive ones are limits.
    Count,
}

/// What a value means.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Valid, and nothing is switched on by it.
    Idle,
    /// Valid, and it would switch something on.
    Asks,
    /// Not a value of this key.
    Invalid,
}

const DATA_TYPES: [&str; 12] = [
    "ACL_PROF_ACL_API",
    "ACL_PROF_TASK_TIME",
    "ACL_PROF_TASK_TIME_L0",
    "ACL_PROF_OP_ATTR",
    "ACL_PROF_AICORE_METRICS",
    "ACL_PROF_TASK_MEMORY",
    "ACL_PROF_AICPU",
    "ACL_PROF_L2CACHE",
    "ACL_PROF_HCCL_TRACE",
    "ACL_PROF_TRAINING_TRACE",
    "ACL_PROF_RUNTIME_API",
    "ACL_PROF_MSPROFTX",
];

const METRICS: [&str; 7] = [
    "ACL_AICORE_PIPE_UTILIZATION",
    "ACL_AICORE_MEMORY_BANDWIDTH",
    "ACL_AICORE_L0B_AND_WIDTH",
    "ACL_AICORE_RESOURCE_CONFLICT_RATIO",
    "ACL_AICORE_MEMORY_UB",
    "ACL_AICORE_L2_CACHE",
    "ACL_AICORE_NONE",
];

pub(super) const KEYS: [HardwareKey; 11] = [
    key("acl_task_time", Kind::Switch(3), "0, 1, 2 or 3", "0"),
    key(
        "acl_prof_task_time_level",
        Kind::TaskTimeLevel,
        "L0 or L1, with ;<1 to 999 seconds> if wanted",
        "\"L0\"",
    ),
    key(
        "aclDataTypeConfig",
        Kind::WordList(&DATA_TYPES),
        "a comma-separated list of ACL_PROF_… names",
        "\"\"",
    ),
    key("aclprofAicoreMetrics", Kind::Word(&METRICS), "one of the ACL_AICORE_… names", "ACL_AICORE_NONE"),
    key("api_filter", Kind::Text, "text", "\"\""),
    key("kernel_filter", Kind::Text, "text", "\"\""),
    key("host_system_usage_freq", Kind::Frequency, "a number from 1 to 50, or -1", "-1"),
    key("npu_memory_usage_freq", Kind::Frequency, "a number from 1 to 50, or -1", "-1"),
    key("torch_prof_stack", Kind::Bool, "true or false", "false"),
    key("torch_prof_modules", Kind::Bool, "true or false", "false"),
    key("torch_prof_step_num", Kind::Count, "an integer", "0"),
];

const fn key(name: &'static str, kind: Kind, expected: &'static str, default: &'static str) -> HardwareKey {
    HardwareKey { name, expected, default, kind }
}

impl HardwareKey {
    pub(super) fn judge(&self, value: &Value) -> Verdict {
        // `None`: not valid; `Some(true)`: would switch something on.
        let asks = match self.kind {
            Kind::Switch(limit) => value.as_i64().filter(|n| (0..=limit).contains(n)).map(|n| n > 0),
            Kind::TaskTimeLevel => value.as_str().filter(|text| is_task_time_level(text)).map(|_| false),
            Kind::WordList(known) => value.as_str().and_then(|list| {
                let mut words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
                words.clone().all(|word| known.contains(&word)).then(|| words.next().is_some())
            }),
            Kind::Word(known) => {
                let is_known = |text: &&str| known.iter().any(|word| word.eq_ignore_ascii_case(text));
                value.as_str().filter(is_known).map(|_| false)
            }
            Kind::Text => value.as_str().map(|_| false),
            Kind::Frequency => match value.as_f64() {
                Some(-1.0) => Some(false),
                frequency => frequency.filter(|hz| (1.0..=50.0).contains(hz)).map(|_| true),
            },
            Kind::Bool => value.as_bool(),
            Kind::Count => value.as_i64().map(|n| n > 0),
        };
        match asks {
            None => Verdict::Invalid,
            Some(true) => Verdict::Asks,
            Some(false) => Verdict::Idle,
        }
    }
}

fn is_task_time_level(text: &str) -> bool {
    let (level, seconds) = text.split_once(';').map_or((text, None), |(level, rest)| (level, Some(rest)));
    matches!(level.trim(), "L0" | "L1")
        && seconds.is_none_or(|s| s.trim().parse::<u32>().is_ok_and(|s| (1..=999).contains(&s)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hardware_keys_are_checked_although_they_have_no_effect() {
        let cases = [
            ("acl_task_time", json!(0), Verdict::Idle),
            ("acl_task_time", json!(3), Verdict::Asks),
            ("acl_task_time", json!(4), Verdict::Invalid),
            ("acl_task_time", json!("1"), Verdict::Invalid),
            ("acl_prof_task_time_level", json!("L1"), Verdict::Idle),
            ("acl_prof_task_time_level", json!("L0;30"), Verdict::Idle),
            ("acl_prof_task_time_level", json!("L0;1000"), Verdict::Invalid),
            ("acl_prof_task_time_level", json!("L7"), Verdict::Invalid),
            ("aclDataTypeConfig", json!(""), Verdict::Idle),
            ("aclDataTypeConfig", json!("ACL_PROF_AICPU, ACL_PROF_L2CACHE"), Verdict::Asks),
            ("aclDataTypeConfig", json!("ACL_PROF_AICPU, NONSENSE"), Verdict::Invalid),
            ("aclprofAicoreMetrics", json!("acl_aicore_l2_cache"), Verdict::Idle),
            ("aclprofAicoreMetrics", json!("L2"), Verdict::Invalid),
            ("api_filter", json!("a;b"), Verdict::Idle),
            ("kernel_filter", json!(1), Verdict::Invalid),
            ("host_system_usage_freq", json!(-1), Verdict::Idle),
            ("host_system_usage_freq", json!(50), Verdict::Asks),
            ("npu_memory_usage_freq", json!(51), Verdict::Invalid),
            ("torch_prof_stack", json!(true), Verdict::Asks),
            ("torch_prof_modules", json!(1), Verdict::Invalid),
            ("torch_prof_step_num", json!(0), Verdict::Idle),
            ("torch_prof_step_num", json!(5), Verdict::Asks),
        ];
        for (name, value, verdict) in cases {
            let key = KEYS.iter().find(|key| key.name == name).unwrap();
            assert_eq!(key.judge(&value), verdict, "{name}: {value}");
        }
    }
}
