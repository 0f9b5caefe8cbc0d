//! Bounds settings by what a run meets: the side of its images, and the memory there is. Numbers of
//! a config are multiplied here before anything is made of them.

use super::StageContext;
use crate::error::Error;
use crate::train::AugmentSettings;
use anyhow::{Result, bail};
use tch::Device;

/// Limits the bytes asked of another device, whose memory is its own to report: no product of a
/// config's numbers overflows below it.
const ELSEWHERE: u64 = 1 << 43;

/// Counts what settings ask for.
pub struct Demand<'a> {
    /// What is asked for, in the plural: `synthetic images`.
    pub what: &'a str,
    pub count: u128,
    /// The bytes that each takes, at least.
    pub bytes: u128,
    /// The keys whose values multiply to the count, the one to blame first.
    pub keys: &'a [&'a str],
}

impl StageContext<'_> {
    /// Refuses a crop that can leave nothing of an image: `group` holds the settings.
    ///
    /// # Errors
    /// Fails unless the padding is smaller than the images' side (usage).
    pub fn refuse_large_crop(
        &self,
        group: &str,
        settings: &AugmentSettings,
        side: i64,
    ) -> Result<()> {
        if settings.crop < side {
            return Ok(());
        }
        let key = format!("{group}.augment.crop");
        bail!(
            Error::usage(format!(
                "`{key}` is {}, but images have {side} pixels a side",
                settings.crop
            ))
            .note("set by", self.composed.set_by(&key))
            .hint(format!(
                "a crop moves an image by so many pixels: choose 0 to {}",
                side - 1
            ))
        );
    }

    /// Returns the bytes of memory that the device has for this process; `None` where it does not
    /// tell.
    pub fn memory(&self) -> Option<u64> {
        match self.device {
            Device::Cpu => memory(),
            _ => None,
        }
    }

    /// Refuses settings that ask for more memory than there is, whatever else a run needs.
    ///
    /// # Errors
    /// Fails when the demand is more than the memory of this machine (usage).
    pub fn refuse_demand(&self, demand: &Demand) -> Result<()> {
        let bytes = demand.count.saturating_mul(demand.bytes);
        let most = self.memory().unwrap_or(ELSEWHERE);
        if bytes <= most.into() {
            return Ok(());
        }
        let named: Vec<String> = demand.keys.iter().map(|key| format!("`{key}`")).collect();
        let (verb, named) = match named.split_last() {
            Some((last, rest)) if !rest.is_empty() => {
                ("ask", format!("{} and {last}", rest.join(", ")))
            }
            _ => ("asks", named.concat()),
        };
        let error = Error::usage(format!(
            "{named} {verb} for {} {}, which take {} of memory or more",
            demand.count,
            demand.what,
            shown(bytes)
        ));
        let tree = serde_json::to_value(self.config).unwrap_or_default();
        let error = demand.keys.iter().fold(error, |error, key| {
            let value = &tree.pointer(&format!("/{}", key.replace('.', "/")));
            let value = value.map_or_else(String::new, ToString::to_string);
            let set_by = self.composed.set_by(key);
            error.note("found", format!("{key}={value}, set by {set_by}"))
        });
        bail!(
            error
                .note("available", shown(most.into()))
                .hint("lower one of them")
        );
    }
}

/// Writes a number of bytes with a unit.
fn shown(bytes: u128) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// Returns the bytes of memory that this process may use, swap included: what is free on the
/// machine, or a limit of its own where that is lower.
fn memory() -> Option<u64> {
    let free = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                line.split_whitespace().next()?.parse::<u64>().ok()
            };
            Some((line("MemAvailable:")? + line("SwapFree:").unwrap_or(0)) << 10)
        });
    let group = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let group = group.iter().find_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().parse::<u64>().ok()
    });
    let limit = |resource| {
        let mut limit = libc::rlimit {
            rlim_cur: libc::RLIM_INFINITY,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: `getrlimit` fills in the struct.
        let answer = unsafe { libc::getrlimit(resource, &mut limit) };
        (answer == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
    };
    let limits = [limit(libc::RLIMIT_AS), limit(libc::RLIMIT_DATA)];
    let all = limits.into_iter().chain([free, group]);
    all.flatten().min()
}
