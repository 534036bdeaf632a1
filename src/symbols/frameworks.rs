//! The serving frameworks on this machine: which versions the limits of entries are compared with, and which symbol
//! packs are for them.

use std::fmt;

use super::table::BUILT_IN;
use super::{Table, Target, Version};
use crate::printable::quoted;

/// A symbol file that comes with this profiler.
#[derive(Debug, PartialEq, Eq)]
pub struct Pack {
    /// The Python package that it is for.
    pub package: &'static str,
    /// The top-level packages of its symbols' modules.
    pub names: &'static [&'static str],
    /// Its text.
    pub text: &'static str,
}

/// All packs.
pub static PACKS: [Pack; 4] = [
    Pack {
        package: "vllm",
        names: &["vllm", "uvicorn"],
        text: include_str!("../../python/msprof_rs/packs/vllm.yaml"),
    },
    Pack {
        package: "vllm_ascend",
        names: &["vllm_ascend"],
        text: include_str!("../../python/msprof_rs/packs/vllm_ascend.yaml"),
    },
    Pack {
        package: "vllm_gaudi",
        names: &["vllm_gaudi"],
        text: include_str!("../../python/msprof_rs/packs/vllm_gaudi.yaml"),
    },
    Pack {
        package: "sglang",
        names: &["sglang"],
        text: include_str!("../../python/msprof_rs/packs/sglang.yaml"),
    },
];

/// The frameworks, and the platforms of vLLM, that are installed.
#[derive(Clone, Debug, Default)]
pub struct Frameworks {
    installed: Vec<(String, Option<Version>)>,
}

impl Frameworks {
    /// From the packages that were found and what they say of their version. One that makes no sense counts as
    /// unknown, and limits nothing.
    pub fn new(installed: impl IntoIterator<Item = (String, Option<String>)>) -> Self {
        let known = |(package, text): (String, Option<String>)| {
            let version = text.and_then(|text| {
                let version = text.parse::<Version>();
                if version.is_err() {
                    let text = quoted(&text);
                    log::warn!(
                        "{package}'s version {text} is not one of PEP 440: version limits are not applied"
                    );
                }
                version.ok()
            });
            (package, version)
        };
        Self { installed: installed.into_iter().map(known).collect() }
    }

    /// The version that an entry's limits are compared with: SGLang's for what is in SGLang, else vLLM's, also for
    /// vLLM's platforms. None: it is not known.
    pub fn version_for(&self, target: &Target) -> Option<&Version> {
        let framework = if target.package() == "sglang" { "sglang" } else { "vllm" };
        self.installed.iter().find(|(package, _)| package == framework)?.1.as_ref()
    }

    /// The packs for what is installed; vLLM's where nothing is.
    pub fn packs(&self) -> Vec<&'static Pack> {
        let is_installed = |pack: &&Pack| self.installed.iter().any(|(package, _)| package == pack.package);
        let packs: Vec<_> = PACKS.iter().filter(is_installed).collect();
        if packs.is_empty() { vec![&PACKS[0]] } else { packs }
    }

    /// The name and the text of those packs as one symbol file.
    pub fn pack(&self) -> (String, String) {
        let packs = self.packs();
        let names: Vec<_> = packs.iter().map(|pack| format!("{}.yaml", pack.package)).collect();
        let texts: Vec<_> = packs.iter().map(|pack| pack.text).collect();
        (format!("{BUILT_IN}{}", names.join(" + ")), texts.join("\n"))
    }

    /// The table of those packs.
    pub fn table(&self) -> Table {
        let (name, text) = self.pack();
        Table::parse(&text, &name).0 // a test holds that there is nothing to say of a pack
    }

    /// Whether that table may name something in this module. The table need not be read to know.
    pub fn packs_may_name(&self, module: &str) -> bool {
        let top = module.split('.').next().unwrap_or(module);
        self.packs().iter().any(|pack| pack.names.contains(&top))
    }
}

impl fmt::Display for Frameworks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.installed.is_empty() {
            return f.write_str("no framework found");
        }
        for (index, (package, version)) in self.installed.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match version {
                Some(version) => write!(f, "{comma}{package} {version}")?,
                None => write!(f, "{comma}{package} of unknown version")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frameworks(installed: &[(&str, &str)]) -> Frameworks {
        Frameworks::new(installed.iter().map(|(name, version)| ((*name).into(), Some((*version).into()))))
    }

    fn version_for(frameworks: &Frameworks, symbol: &str) -> Option<String> {
        frameworks.version_for(&Target::parse(symbol).unwrap()).map(ToString::to_string)
    }

    #[test]
    fn limits_are_those_of_the_framework_that_an_entry_is_in() {
        let both = frameworks(&[("vllm", "0.32.0"), ("vllm_ascend", "0.30.0"), ("sglang", "0.5.9")]);
        assert_eq!(version_for(&both, "vllm.v1:f").as_deref(), Some("0.32.0"));
        assert_eq!(version_for(&both, "vllm_ascend.worker:f").as_deref(), Some("0.32.0"));
        assert_eq!(version_for(&both, "my.own:f").as_deref(), Some("0.32.0"));
        assert_eq!(version_for(&both, "sglang.srt.*:C.m").as_deref(), Some("0.5.9"));
        assert_eq!(version_for(&frameworks(&[("sglang", "0.5.9")]), "vllm:f"), None);
        assert_eq!(version_for(&frameworks(&[("vllm", "main")]), "vllm:f"), None);
        assert_eq!(both.to_string(), "vllm 0.32.0, vllm_ascend 0.30.0, sglang 0.5.9");
    }

    #[test]
    fn the_packs_are_those_of_what_is_installed() {
        let names = |installed| frameworks(installed).pack().0;
        assert_eq!(names(&[]), "built-in vllm.yaml");
        assert_eq!(names(&[("sglang", "1")]), "built-in sglang.yaml");
        assert_eq!(names(&[("vllm", "1"), ("vllm_ascend", "1")]), "built-in vllm.yaml + vllm_ascend.yaml");
    }

    #[test]
    fn every_pack_is_read_without_a_word_and_packs_can_be_joined() {
        let all = frameworks(&[("vllm", "1"), ("vllm_ascend", "1"), ("vllm_gaudi", "1"), ("sglang", "1")]);
        let (name, text) = all.pack();
        let (joined, problems) = Table::parse(&text, &name);
        assert_eq!(problems, []);
        let one_by_one: usize =
            PACKS.iter().map(|pack| Table::parse(pack.text, pack.package).0.symbols.len()).sum();
        assert_eq!(joined.symbols.len(), one_by_one);
        assert!(PACKS.iter().all(|pack| Table::parse(pack.text, pack.package).0.symbols.len() > 3));
    }

    #[test]
    fn a_pack_says_which_packages_its_symbols_are_in() {
        for pack in &PACKS {
            let frameworks = frameworks(&[(pack.package, "1")]);
            let table = frameworks.table();
            let mut named: Vec<_> = table.symbols.iter().map(|symbol| symbol.target.package()).collect();
            named.sort_unstable();
            named.dedup();
            let mut names = pack.names.to_vec();
            names.sort_unstable();
            assert_eq!(named, names);
            assert!(names.iter().all(|name| frameworks.packs_may_name(&format!("{name}.a.b"))));
            assert!(!frameworks.packs_may_name("json") && !frameworks.packs_may_name("vllm2"));
        }
    }
}
