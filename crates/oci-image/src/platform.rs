//! Platforms and which of them a host can run.

use serde::{Deserialize, Serialize};

/// The platform that an image is for (OCI image index, `platform`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system in Go's spelling: `linux`.
    #[serde(default)]
    pub os: String,
    /// Architecture in Go's spelling: `amd64`, `arm64`, `arm`, ….
    #[serde(default)]
    pub architecture: String,
    /// Variant of the architecture: `v7`, `v8`, …; empty for its usual one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// A platform in its usual spelling: aliases (`x86_64`, `aarch64`, `armhf`) become Go's names,
    /// a variant that the architecture implies is left out.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let lower = (os.to_lowercase(), architecture.to_lowercase(), variant.to_lowercase());
        let (arch, variant) = match (lower.1.as_str(), lower.2.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
            ("i386" | "i486" | "i586" | "i686" | "386", _) => ("386", ""),
            ("aarch64" | "arm64", "" | "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "v9.0") => ("arm64", "v9"),
            ("aarch64" | "arm64", v) => ("arm64", v),
            ("armhf", _) | ("arm", "" | "7" | "v7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6" | "v6") => ("arm", "v6"),
            ("arm", "5" | "v5") => ("arm", "v5"),
            ("arm", "8" | "v8") => ("arm", "v8"),
            (other, v) => (other, v),
        };
        Self { os: lower.0, architecture: arch.to_owned(), variant: variant.to_owned() }
    }

    /// The platform that this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let arch = match std::env::consts::ARCH {
            "x86" => "386",
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "mips64" if cfg!(target_endian = "little") => "mips64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new(std::env::consts::OS, arch, "")
    }

    /// What a host of this platform can run, the best first.
    ///
    /// A newer variant runs the older ones; 64-bit x86 and ARM run their 32-bit kin. What a given
    /// processor really can do is not knowable here: an exact match always comes first.
    #[must_use]
    pub fn runs(&self) -> Vec<Self> {
        let own = Self::new(&self.os, &self.architecture, &self.variant);
        let with = |arch: &str, v: &str| Self::new(&own.os, arch, v);
        let mut all = vec![own.clone()];
        match own.architecture.as_str() {
            "amd64" => {
                let level = own.variant.strip_prefix('v').and_then(|v| v.parse::<u8>().ok());
                all.extend((1..level.unwrap_or(1)).rev().map(|l| with("amd64", &format!("v{l}"))));
                all.push(with("386", ""));
            }
            "arm64" => {
                if !own.variant.is_empty() {
                    let (major, minor) = arm_level(&own.variant);
                    all.extend((0..minor).rev().map(|m| with("arm64", &arm_name(major, m))));
                    if major > 8 {
                        all.push(with("arm64", "v8"));
                    }
                }
                all.extend([8, 7, 6, 5].map(|v| with("arm", &format!("v{v}"))));
            }
            "arm" => {
                let level = arm_level(&own.variant).0;
                all.extend((5..level).rev().map(|v| with("arm", &format!("v{v}"))));
            }
            _ => {}
        }
        all.dedup();
        all
    }
}

/// `v8.2` as `(8, 2)`. A variant that is not of this form counts as the lowest.
fn arm_level(variant: &str) -> (u8, u8) {
    let text = variant.trim_start_matches('v');
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    // The bound keeps the list of older variants short whatever the text says.
    (major.parse().unwrap_or(0).min(16), minor.parse().unwrap_or(0).min(16))
}

fn arm_name(major: u8, minor: u8) -> String {
    if minor == 0 { format!("v{major}") } else { format!("v{major}.{minor}") }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_platform_are_one_value() {
        for (given, want) in [
            (("linux", "x86_64", ""), "linux/amd64"),
            (("Linux", "amd64", "v1"), "linux/amd64"),
            (("linux", "aarch64", "v8"), "linux/arm64"),
            (("linux", "arm", ""), "linux/arm/v7"),
            (("linux", "armel", ""), "linux/arm/v6"),
            (("linux", "i686", ""), "linux/386"),
            (("linux", "riscv64", ""), "linux/riscv64"),
        ] {
            assert_eq!(Platform::new(given.0, given.1, given.2).to_string(), want);
        }
    }

    #[test]
    fn newer_variants_run_older_ones_and_never_the_other_way_round() {
        let list = |a: &str, v: &str| {
            let all = Platform::new("linux", a, v).runs();
            all.iter().map(|p| format!("{}{}", p.architecture, p.variant)).collect::<Vec<_>>()
        };
        assert_eq!(list("arm", "v7"), ["armv7", "armv6", "armv5"]);
        assert_eq!(list("arm", "v5"), ["armv5"]);
        assert_eq!(list("arm64", ""), ["arm64", "armv8", "armv7", "armv6", "armv5"]);
        assert_eq!(list("arm64", "v9")[..3], ["arm64v9", "arm64", "armv8"]);
        assert_eq!(list("arm64", "v8.2")[..3], ["arm64v8.2", "arm64v8.1", "arm64"]);
        assert_eq!(list("amd64", "v3"), ["amd64v3", "amd64v2", "amd64", "386"]);
        assert_eq!(list("s390x", ""), ["s390x"]);
    }
}
