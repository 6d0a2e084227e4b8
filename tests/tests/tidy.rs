//! Style that matters is a failing check: file and function length, purity of the cores, module docs, leftovers.
//!
//! In: the source files of the workspace. Out: one line per violation.

use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Lines of a file before its inline tests.
const FILE_LINES_MAX: usize = 800;
/// Lines of one function, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 100;

/// Folders in which nothing may do IO or depend on a clock, a random source or a runtime.
const PURE: &[&str] = &[
    "binlog/src",
    "flow/src",
    "schema/src",
    "store/src/core",
    "collector/src/core",
    "collector/src/wire",
    "merger/src/core",
    "dump-server/src/core",
    "dump-server/src/wire",
];

/// What pure code may not name.
const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "Instant::now",
    "SystemTime",
    "rand::",
    "getrandom",
    "mysql_async",
    "rocksdb",
    "tracing::",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace exists")
}

/// All files below `dir` with one of the endings, without build output and hidden folders.
fn files(dir: &Path, endings: &[&str], out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .expect("readable")
        .map(|e| e.expect("readable").path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files(&path, endings, out);
        } else if endings.iter().any(|e| name.ends_with(e)) {
            out.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let (root, mut paths) = (root(), Vec::new());
    files(&root, &[".rs"], &mut paths);
    assert!(paths.len() > 50, "the sources are found");
    let relative = |p: &Path| {
        p.strip_prefix(&root)
            .expect("below the root")
            .to_string_lossy()
            .into_owned()
    };
    paths
        .iter()
        .map(|p| (relative(p), fs::read_to_string(p).expect("UTF-8")))
        .collect()
}

fn refuse(violations: &[String]) {
    assert!(
        violations.is_empty(),
        "{} violations:\n{}",
        violations.len(),
        violations.join("\n")
    );
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("/naive.rs")
}

/// The part of a file before its inline tests.
fn code_part(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod ")
        .map_or(text, |at| &text[..at])
}

struct Functions<'a> {
    path: &'a str,
    long: Vec<String>,
}

impl Functions<'_> {
    fn check(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        let lines = span.end().line + 1 - span.start().line;
        if lines > FUNCTION_LINES_MAX {
            self.long.push(format!(
                "{}:{}: fn {name} has {lines} lines",
                self.path,
                span.start().line
            ));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, f: &'ast syn::ItemFn) {
        self.check(
            &f.sig.ident,
            f.sig
                .span()
                .join(f.block.span())
                .unwrap_or_else(|| f.block.span()),
        );
        visit::visit_item_fn(self, f);
    }
    fn visit_impl_item_fn(&mut self, f: &'ast syn::ImplItemFn) {
        self.check(
            &f.sig.ident,
            f.sig
                .span()
                .join(f.block.span())
                .unwrap_or_else(|| f.block.span()),
        );
        visit::visit_impl_item_fn(self, f);
    }
}

#[test]
fn files_and_functions_are_short() {
    let mut violations = Vec::new();
    for (path, text) in sources() {
        let lines = if is_test_file(&path) {
            0
        } else {
            code_part(&text).lines().count()
        };
        if lines > FILE_LINES_MAX {
            violations.push(format!("{path}: {lines} lines of code"));
        }
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut functions = Functions {
            path: &path,
            long: Vec::new(),
        };
        functions.visit_file(&file);
        violations.extend(functions.long);
    }
    refuse(&violations);
}

#[test]
fn every_module_says_what_it_is() {
    let silent: Vec<String> = (sources().into_iter())
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| format!("{path}: does not open with //!"))
        .collect();
    refuse(&silent);
}

#[test]
fn cores_are_pure() {
    let mut violations = Vec::new();
    let mut seen = 0;
    for (path, text) in sources() {
        if !PURE.iter().any(|p| path.starts_with(&format!("{p}/"))) || is_test_file(&path) {
            continue;
        }
        seen += 1;
        for (number, line) in code_part(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            for word in IMPURE.iter().filter(|w| code.contains(**w)) {
                violations.push(format!("{path}:{}: `{word}` in pure code", number + 1));
            }
        }
    }
    assert!(seen > 30, "the cores are found");
    refuse(&violations);
}

#[test]
fn nothing_is_left_over() {
    let words = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X:"],
        ["dbg", "!("],
        ["todo", "!("],
        ["unimplemented", "!("],
    ]
    .map(|w| w.concat());
    let mut violations = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|w| line.contains(w.as_str())) {
                violations.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    refuse(&violations);
}

#[test]
fn stages_do_not_know_each_other() {
    let stages = ["collector", "merger", "dump-server"];
    let mut violations = Vec::new();
    for stage in stages {
        let manifest = fs::read_to_string(root().join(stage).join("Cargo.toml")).expect("readable");
        let normal = manifest.split("[dev-dependencies]").next().unwrap_or("");
        for other in stages.iter().filter(|o| **o != stage) {
            if normal.contains(&format!("tributary-{other}.")) {
                violations.push(format!("{stage} depends on {other}"));
            }
        }
    }
    refuse(&violations);
}

#[test]
fn every_document_has_one_title() {
    let (root, mut paths) = (root(), Vec::new());
    files(&root, &[".md"], &mut paths);
    let mut violations = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("UTF-8");
        let mut code = false;
        let titles = (text.lines())
            .filter(|line| {
                code ^= line.starts_with("```");
                !code && line.starts_with("# ")
            })
            .count();
        if titles != 1 {
            violations.push(format!("{}: {titles} titles", path.display()));
        }
    }
    refuse(&violations);
}
