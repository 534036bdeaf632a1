//! Processes of vLLM that were told to record and can't: `VLLM_PLUGINS` names the plugins that vLLM loads, and leaves ours
//! out.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::files;

/// Most bytes of a process's environment that are looked at.
const ENVIRONMENT_LIMIT: u64 = 4 << 20;

const PLUGIN: &str = "msprof_rs";

/// Says which processes of this user are left out, other than those that record all the same.
pub(super) fn tell(recording: &[u32]) {
    for (plugins, pids) in find(Path::new("/proc"), recording) {
        let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
        log::warn!(
            "VLLM_PLUGINS={plugins:?} leaves {PLUGIN} out: vLLM does not load it, and nothing of process {} is recorded. Add \
             {PLUGIN} to it",
            pids.join(", ")
        );
    }
}

/// The processes, by the plugins that they load.
fn find(proc: &Path, recording: &[u32]) -> BTreeMap<String, Vec<u32>> {
    let user = files::user();
    let mut found = BTreeMap::<String, Vec<u32>>::new();
    for entry in proc.read_dir().into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let is_ours = entry.metadata().is_ok_and(|metadata| metadata.uid() == user);
        if !is_ours || recording.contains(&pid) {
            continue;
        }
        // What has just ended can't be read.
        let read = |name: &str| {
            let file = files::open_regular(&entry.path().join(name))?;
            files::read_to_limit(file, ENVIRONMENT_LIMIT)
        };
        let (Ok(command), Ok(environment)) = (read("cmdline"), read("environ")) else { continue };
        if String::from_utf8_lossy(&command).to_ascii_lowercase().contains("vllm")
            && let Some(plugins) = leaves_out(&environment)
        {
            found.entry(plugins).or_default().push(pid);
        }
    }
    found
}

/// What `VLLM_PLUGINS` says in the environment of a process that is to record, if that leaves ours out.
fn leaves_out(environment: &[u8]) -> Option<String> {
    let variable = |name: &str| {
        environment.split(|byte| *byte == 0).find_map(|line| {
            let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    };
    variable("SERVICE_PROF_CONFIG_PATH").filter(|path| !path.is_empty())?;
    variable("VLLM_PLUGINS").filter(|plugins| plugins.split(',').all(|plugin| plugin.trim() != PLUGIN))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn servers_whose_list_of_plugins_lacks_ours_are_found() {
        let proc = tempfile::tempdir().unwrap();
        let to_record = "SERVICE_PROF_CONFIG_PATH=/c.json";
        for (pid, command, environment) in [
            ("10", "python\0/bin/vllm\0serve", format!("{to_record}\0VLLM_PLUGINS=lora,other\0")),
            ("11", "VLLM::EngineCore", format!("VLLM_PLUGINS=lora,other\0{to_record}\0")),
            ("12", "VLLM::EngineCore", format!("VLLM_PLUGINS=\0{to_record}\0")),
            ("13", "VLLM::EngineCore", format!("VLLM_PLUGINS=lora, msprof_rs\0{to_record}\0")),
            ("14", "VLLM::EngineCore", format!("{to_record}\0")),
            ("15", "VLLM::EngineCore", "VLLM_PLUGINS=lora\0SERVICE_PROF_CONFIG_PATH=\0".into()),
            ("16", "bash", format!("VLLM_PLUGINS=lora\0{to_record}\0")),
            ("17", "VLLM::EngineCore", format!("VLLM_PLUGINS=lora\0{to_record}\0")),
            ("self", "VLLM::EngineCore", format!("VLLM_PLUGINS=lora\0{to_record}\0")),
        ] {
            let folder = proc.path().join(pid);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("cmdline"), command).unwrap();
            fs::write(folder.join("environ"), environment).unwrap();
        }
        let mut found = find(proc.path(), &[17]);
        found.values_mut().for_each(|pids| pids.sort_unstable());
        assert_eq!(found, BTreeMap::from([(String::new(), vec![12]), ("lora,other".into(), vec![10, 11])]));
    }
}
