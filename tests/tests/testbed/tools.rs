//! `tools/get-mysql` finds the Debian archive in whatever form a machine names it.

use std::fs;
use std::process::Command;

use tributary_tests::tools::repository;

fn sources(list: &str, deb822: &str) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("sources.list.d")).expect("a directory");
    fs::write(dir.path().join("sources.list"), list).expect("a file");
    fs::write(dir.path().join("sources.list.d/debian.sources"), deb822).expect("a file");
    let output = Command::new(repository().join("tools/get-mysql"))
        .arg("--sources")
        .env("TRIBUTARY_APT_DIR", dir.path())
        .env_remove("TRIBUTARY_DEBIAN_MIRROR")
        .output()
        .expect("it runs");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_one_line_source_is_asked_for_sid() {
    let list = "# main\n\
        deb-src http://mirror.test/src bookworm main\n\
        deb http://mirror.test/debian bookworm main contrib\n\
        deb http://mirror.test/debian bookworm-updates main\n\
        deb http://mirror.test/debian-security bookworm-security main\n\
        deb [arch=amd64 signed-by=/k.gpg] http://other.test/debian stable main\n";
    let found = sources(list, "");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("deb ") && found[0].ends_with(" http://mirror.test/debian sid main")
    );
    assert_eq!(
        found[1],
        "deb [arch=amd64 signed-by=/k.gpg] http://other.test/debian sid main"
    );
}

#[test]
fn a_deb822_source_is_asked_for_sid() {
    let text = "Types: deb deb-src\n# a comment\nURIs: http://a.test/debian http://b.test/debian\n\
        Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n\
        Types: deb\nURIs: http://a.test/debian-security\nSuites: bookworm-security\nComponents: main\n\n\
        Enabled: no\nTypes: deb\nURIs: http://off.test/debian\nSuites: sid\nComponents: main\n";
    let wanted = [
        "deb [signed-by=/k.gpg] http://a.test/debian sid main",
        "deb [signed-by=/k.gpg] http://b.test/debian sid main",
    ];
    assert_eq!(sources("", text), wanted);
}

#[test]
fn a_dated_snapshot_is_asked_for_the_sid_of_today_first() {
    let list =
        "deb [signed-by=/k.gpg] http://s.test/archive/debian/20200101T000000Z bookworm main\n";
    let found = sources(list, "");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found[0].contains("/archive/debian/") && !found[0].contains("20200101"),
        "{found:?}"
    );
    assert_eq!(
        found[1],
        "deb [signed-by=/k.gpg] http://s.test/debian sid main"
    );
    assert!(found[2].contains("/archive/debian/20200101T000000Z sid main"));
}
