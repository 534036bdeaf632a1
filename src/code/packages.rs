//! Finds in the source of installed packages what a symbol names; says what is there instead if it is gone.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::module::{Class, Function, Item, Module, Names};
use crate::files::{TEXT_LIMIT, read_text};
use crate::symbols::mangled;

/// Imports and base classes lead on so many times at most: they could go round.
const MOST_STEPS: usize = 20;

/// So many names are offered for one that is gone.
const MOST_NAMES: usize = 3;

/// Names less alike than this are no help.
const ALIKE: f64 = 0.75;

/// The packages that are installed, by their source.
pub struct Packages<'a> {
    locate: &'a dyn Fn(&str) -> Option<PathBuf>,
    modules: RefCell<FxHashMap<String, Option<Rc<Source>>>>,
}

/// A module and its file.
struct Source {
    file: PathBuf,
    module: Module,
}

/// Where a function is.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its file.
    pub file: PathBuf,
    /// The module that defines it, which may be another than the symbol's.
    pub module: String,
    /// What it is called there: `Class.method`, `function`.
    pub path: String,
    /// What it is; None if it is no `def` (an object with a `__call__`, for instance) or its source is not there.
    pub function: Option<Function>,
}

/// Why a function was not found.
#[derive(Clone, Debug, PartialEq)]
pub enum Missing {
    /// The package is not installed.
    Package(String),
    /// The package has no such module.
    Module {
        /// Its name.
        module: String,
        /// Where the package has the function.
        instead: Vec<String>,
    },
    /// The module has no such function or class.
    Name {
        /// The module.
        module: String,
        /// The part of the symbol that is not there.
        name: String,
        /// Where the package has the function, or what is called alike.
        instead: Vec<String>,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instead = match self {
            Self::Package(name) => return write!(f, "the package {name} is not installed"),
            Self::Module { module, instead } => {
                write!(f, "there is no module {module}")?;
                instead
            }
            Self::Name { module, name, instead } => {
                write!(f, "{module} has no {name}")?;
                instead
            }
        };
        if instead.is_empty() { Ok(()) } else { write!(f, "; perhaps it is now {}", instead.join(" or ")) }
    }
}

/// What a name has led to.
enum Thing {
    Function(Found),
    Class(Rc<Source>, String, String, Class),
    Module(String),
    /// Something that can't be looked into.
    Opaque(PathBuf, String, String),
}

/// A class that another one is or inherits from.
struct Ancestor {
    source: Rc<Source>,
    module: String,
    path: String,
    names: Names,
}

impl Ancestor {
    /// What the class itself has under a name, and its name there: one that is private to it may be given as it is
    /// outside of the class.
    fn get(&self, name: &str) -> Option<(&String, &Item)> {
        let class = self.path.rsplit('.').next().unwrap_or(&self.path);
        let is_it = |own: &str| mangled(class, own).is_some_and(|outside| outside == name);
        self.names.get_key_value(name).or_else(|| self.names.iter().find(|(own, _)| is_it(own)))
    }
}

impl<'a> Packages<'a> {
    /// `locate` tells the folder that a top-level package is in, or none if it is not installed.
    pub fn new(locate: &'a dyn Fn(&str) -> Option<PathBuf>) -> Self {
        Self { locate, modules: RefCell::default() }
    }

    /// Finds `path` (`Class.method`, `function`) of a module.
    ///
    /// # Errors
    /// It is not there.
    pub fn find(&self, module: &str, path: &str) -> Result<Found, Missing> {
        let top = module.split('.').next().unwrap_or(module);
        let Some(folder) = (self.locate)(top) else { return Err(Missing::Package(top.into())) };
        let function = path.rsplit('.').next().unwrap_or(path);
        if self.module(module).is_none() {
            // A module that was compiled has no source to look into.
            if let Some(file) = compiled(&folder, module) {
                return Ok(Found { file, module: module.into(), path: path.into(), function: None });
            }
            let instead = self.elsewhere(&folder, module, path);
            return Err(Missing::Module { module: module.into(), instead });
        }
        // `Class.property.setter` is the property's.
        let (path, way) = match path.rsplit_once('.') {
            Some((way, "getter" | "setter" | "deleter")) if way.contains('.') => (way, way.split('.')),
            _ => (path, path.split('.')),
        };
        let mut thing = Thing::Module(module.to_owned());
        for (index, name) in way.enumerate() {
            thing = if let Some(next) = self.step(&thing, name, 0) {
                next
            } else {
                let last = path.split('.').count() - 1 == index;
                let mut instead = self.elsewhere(&folder, module, path);
                if last {
                    instead.extend(self.alike(&thing, function));
                }
                instead.truncate(MOST_NAMES);
                let name = path.split('.').take(index + 1).collect::<Vec<_>>().join(".");
                return Err(Missing::Name { module: module.into(), name, instead });
            };
        }
        Ok(match thing {
            Thing::Function(found) => found,
            Thing::Class(source, module, path, _) => {
                Found { file: source.file.clone(), module, path, function: None }
            }
            Thing::Opaque(file, module, path) => Found { file, module, path, function: None },
            Thing::Module(name) => Found { file: folder, module: name, path: path.into(), function: None },
        })
    }

    /// The classes of modules below a package for which `wanted` holds (module, class), that have the method
    /// themselves: what a pattern means.
    pub fn matching(&self, top: &str, method: &str, wanted: &dyn Fn(&str, &str) -> bool) -> Vec<Found> {
        let Some(folder) = (self.locate)(top) else { return Vec::new() };
        let mut found = Vec::new();
        for (file, module) in files(&folder, top) {
            if !mentions(&file, &format!("def {method}")) {
                continue;
            }
            let Some(source) = self.module(&module) else { continue };
            for (name, item) in &source.module.names {
                let Item::Class(class) = item else { continue };
                let Some(Item::Function(function)) = class.names.get(method) else { continue };
                if wanted(&module, name) {
                    found.push(Found {
                        file: file.clone(),
                        module: module.clone(),
                        path: format!("{name}.{method}"),
                        function: Some(function.clone()),
                    });
                }
            }
        }
        found.sort_by(|a, b| (&a.module, &a.path).cmp(&(&b.module, &b.path)));
        found
    }

    /// The files of a package that hold on to a function of one of its modules other than by its name: a table, a
    /// `partial`, a default. Gives file and line of each.
    pub fn holders(&self, top: &str, function: &str) -> Vec<(PathBuf, u64)> {
        let Some(folder) = (self.locate)(top) else { return Vec::new() };
        let mut holders = Vec::new();
        for (file, _) in files(&folder, top) {
            let Ok(text) = read_text(&file, TEXT_LIMIT) else { continue };
            if text.contains(function) {
                holders.extend(
                    super::module::held_at(&text, function).into_iter().map(|line| (file.clone(), line)),
                );
            }
        }
        holders.sort();
        holders
    }

    fn module(&self, name: &str) -> Option<Rc<Source>> {
        if let Some(known) = self.modules.borrow().get(name) {
            return known.clone();
        }
        let source = self.read(name).map(Rc::new);
        self.modules.borrow_mut().insert(name.to_owned(), source.clone());
        source
    }

    fn read(&self, name: &str) -> Option<Source> {
        let folder = (self.locate)(name.split('.').next().unwrap_or(name))?;
        let stem = folder.join(name.replace('.', "/"));
        let package = stem.join("__init__.py");
        let is_package = package.is_file();
        let file = if is_package { package } else { stem.with_extension("py") };
        let text = read_text(&file, TEXT_LIMIT).ok()?;
        let parent = if is_package { name } else { name.rsplit_once('.').map_or("", |(parent, _)| parent) };
        Some(Source { file, module: Module::parse(&text, parent) })
    }

    /// What `name` is in a module or class.
    fn step(&self, thing: &Thing, name: &str, steps: usize) -> Option<Thing> {
        if steps > MOST_STEPS {
            return None;
        }
        match thing {
            Thing::Module(module) => {
                let source = self.module(module)?;
                if let Some(item) = source.module.names.get(name) {
                    return self.resolve(&source, module, name, item, steps);
                }
                let star = source
                    .module
                    .stars
                    .iter()
                    .find_map(|star| self.step(&Thing::Module(star.clone()), name, steps + 1));
                star.or_else(|| {
                    let below = format!("{module}.{name}");
                    self.module(&below).map(|_| Thing::Module(below))
                })
            }
            Thing::Class(..) => {
                let mut lineage = Vec::new();
                self.add_lineage(thing, steps, &mut lineage);
                let (class, (name, item)) =
                    lineage.iter().find_map(|class| Some((class, class.get(name)?)))?;
                self.resolve(&class.source, &class.module, &format!("{}.{name}", class.path), item, steps)
            }
            Thing::Opaque(file, module, path) => {
                Some(Thing::Opaque(file.clone(), module.clone(), format!("{path}.{name}")))
            }
            Thing::Function(_) => None,
        }
    }

    /// Adds a class and those that it inherits from, in the order in which Python asks them: one that is there twice
    /// comes after all that inherit from it.
    fn add_lineage(&self, thing: &Thing, steps: usize, lineage: &mut Vec<Ancestor>) {
        let Thing::Class(source, module, path, class) = thing else { return };
        if steps > MOST_STEPS {
            return;
        }
        lineage.retain(|known| (&known.module, &known.path) != (module, path));
        lineage.push(Ancestor {
            source: source.clone(),
            module: module.clone(),
            path: path.clone(),
            names: class.names.clone(),
        });
        for base in &class.bases {
            if let Some(base) = self.walk(module, base, steps + 1) {
                self.add_lineage(&base, steps + 1, lineage);
            }
        }
    }

    /// What a dotted name means in a module.
    fn walk(&self, module: &str, dotted: &str, steps: usize) -> Option<Thing> {
        dotted
            .split('.')
            .try_fold(Thing::Module(module.to_owned()), |thing, name| self.step(&thing, name.trim(), steps))
    }

    fn resolve(
        &self,
        source: &Rc<Source>,
        module: &str,
        path: &str,
        item: &Item,
        steps: usize,
    ) -> Option<Thing> {
        Some(match item {
            Item::Function(function) => Thing::Function(Found {
                file: source.file.clone(),
                module: module.into(),
                path: path.into(),
                function: Some(function.clone()),
            }),
            Item::Class(class) => Thing::Class(source.clone(), module.into(), path.into(), class.clone()),
            Item::Import { module: from, name: None } => Thing::Module(from.clone()),
            Item::Import { module: from, name: Some(name) } => {
                return self.step(&Thing::Module(from.clone()), name, steps + 1);
            }
            Item::Alias(dotted) => {
                // A class's name for something may be its own: `step = _step`.
                let own = path.rsplit_once('.').map(|(class, _)| format!("{class}.{dotted}"));
                let found = own.and_then(|own| self.walk(module, &own, steps + 1));
                return found
                    .or_else(|| self.walk(module, dotted, steps + 1))
                    .or_else(|| Some(Thing::Opaque(source.file.clone(), module.into(), path.into())));
            }
            Item::Value => Thing::Opaque(source.file.clone(), module.into(), path.into()),
        })
    }

    /// Names in a module or class that are written much like this one.
    fn alike(&self, thing: &Thing, name: &str) -> Vec<String> {
        let (prefix, names) = match thing {
            Thing::Module(module) => {
                let Some(source) = self.module(module) else { return Vec::new() };
                (format!("{module}:"), source.module.names.clone())
            }
            Thing::Class(_, module, path, class) => (format!("{module}:{path}."), class.names.clone()),
            Thing::Function(_) | Thing::Opaque(..) => return Vec::new(),
        };
        let mut names: Vec<_> = names
            .iter()
            .filter(|(_, item)| matches!(item, Item::Function(_)))
            .map(|(other, _)| (strsim::jaro_winkler(name, other), other))
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .collect();
        names.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        names.into_iter().take(MOST_NAMES).map(|(_, other)| format!("{prefix}{other}")).collect()
    }

    /// Where else a module's package defines a function of that name: in a class of the same name if there is one,
    /// the nearest modules first.
    fn elsewhere(&self, folder: &Path, from: &str, path: &str) -> Vec<String> {
        let top = from.split('.').next().unwrap_or(from);
        let (class, function) = path.rsplit_once('.').unwrap_or(("", path));
        let definition = format!("def {function}(");
        let mut all = Vec::new();
        for (file, module) in files(folder, top) {
            if !mentions(&file, &definition) {
                continue;
            }
            let Some(source) = self.module(&module) else { continue };
            for (name, item) in &source.module.names {
                match item {
                    Item::Function(_) if name == function => {
                        all.push((class.is_empty(), format!("{module}:{name}")));
                    }
                    Item::Class(other) if matches!(other.names.get(function), Some(Item::Function(_))) => {
                        all.push((name == class, format!("{module}:{name}.{function}")));
                    }
                    _ => {}
                }
            }
        }
        // Of those in other classes many may be strangers.
        if all.iter().any(|(same, _)| *same) {
            all.retain(|(same, _)| *same);
        }
        let shared = |name: &str| name.split('.').zip(from.split('.')).take_while(|(a, b)| a == b).count();
        all.sort_by_key(|(_, name)| (Reverse(shared(name)), name.clone()));
        all.into_iter().take(MOST_NAMES).map(|(_, name)| name).collect()
    }
}

/// All Python files of a package with the names of their modules.
fn files(folder: &Path, top: &str) -> Vec<(PathBuf, String)> {
    fn below(path: &Path, module: &str, files: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type();
            if kind.is_ok_and(|kind| kind.is_dir()) {
                if !name.starts_with(['.', '_']) {
                    below(&path, &format!("{module}.{name}"), files);
                }
            } else if let Some(stem) = name.strip_suffix(".py") {
                let module = if stem == "__init__" { module.to_owned() } else { format!("{module}.{stem}") };
                files.push((path, module));
            }
        }
    }
    let mut files = Vec::new();
    below(&folder.join(top), top, &mut files);
    let alone = folder.join(top).with_extension("py");
    if alone.is_file() {
        files.push((alone, top.to_owned()));
    }
    files.sort();
    files
}

fn mentions(file: &Path, text: &str) -> bool {
    read_text(file, TEXT_LIMIT).is_ok_and(|code| code.contains(text))
}

/// The file of a module that is an extension.
fn compiled(folder: &Path, module: &str) -> Option<PathBuf> {
    let stem = folder.join(module.replace('.', "/"));
    let name = format!("{}.", stem.file_name()?.to_string_lossy());
    let entries = fs::read_dir(stem.parent()?).ok()?.flatten();
    entries.map(|entry| entry.path()).find(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&name) && path.extension().is_some_and(|it| it == "so")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn with_packages<R>(files: &[(&str, &str)], test: impl FnOnce(&Packages<'_>) -> R) -> R {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), files);
        let locate = |top: &str| folder.path().join(top).exists().then(|| folder.path().to_path_buf());
        test(&Packages::new(&locate))
    }

    const SHOP: &[(&str, &str)] = &[
        ("shop/__init__.py", "from .till import pay\nfrom shop.base import *\n"),
        (
            "shop/till.py",
            "from . import base\nfrom .base import Base\nclass Till(Base):\n    def ring(self, x): ...\n    ting = ring\ndef pay(): ...\n",
        ),
        (
            "shop/base.py",
            "class Root:\n    async def open(self): ...\nclass Base(Root):\n    def count(self): ...\n    def __lock(self): ...\nround = round_up = 1\n",
        ),
        ("shop/native.cpython-311-x86_64-linux-gnu.so", ""),
        ("shop/models/a.py", "class A:\n    def embed(self): ...\nclass B:\n    def other(self): ...\n"),
    ];

    #[test]
    fn a_symbol_is_found_through_imports_bases_and_other_names() {
        with_packages(SHOP, |packages| {
            let at = |module: &str, path: &str| {
                let found = packages.find(module, path).unwrap();
                (found.module, found.path, found.function.map(|function| function.line))
            };
            assert_eq!(at("shop.till", "Till.ring"), ("shop.till".into(), "Till.ring".into(), Some(4)));
            assert_eq!(at("shop.till", "Till.ting").1, "Till.ring");
            assert_eq!(at("shop.till", "Till.count"), ("shop.base".into(), "Base.count".into(), Some(4)));
            assert_eq!(at("shop.till", "Till.open"), ("shop.base".into(), "Root.open".into(), Some(2)));
            for lock in ["Till.__lock", "Till._Base__lock"] {
                assert_eq!(at("shop.till", lock).1, "Base.__lock");
            }
            assert_eq!(at("shop", "pay"), ("shop.till".into(), "pay".into(), Some(6)));
            assert_eq!(at("shop", "Root.open").0, "shop.base");
            assert_eq!(at("shop.till", "base.Root.open").0, "shop.base");
            assert_eq!(at("shop.native", "f").2, None);
        });
    }

    #[test]
    fn of_several_bases_the_one_counts_that_python_asks_first() {
        let text = "class Top:\n    def f(self): ...\nclass Left(Top): ...\nclass Right(Top):\n    def f(self): ...\n\
                    class Both(Left, Right): ...\n";
        with_packages(&[("a/__init__.py", text)], |packages| {
            assert_eq!(packages.find("a", "Both.f").unwrap().path, "Right.f");
            assert_eq!(packages.find("a", "Left.f").unwrap().path, "Top.f");
        });
    }

    #[test]
    fn what_is_gone_is_told_with_what_may_have_replaced_it() {
        with_packages(SHOP, |packages| {
            let error = |module: &str, path: &str| packages.find(module, path).unwrap_err().to_string();
            assert_eq!(error("market.till", "pay"), "the package market is not installed");
            assert_eq!(
                error("shop.tills", "pay"),
                "there is no module shop.tills; perhaps it is now shop.till:pay"
            );
            assert_eq!(
                error("shop.till", "Till.rings"),
                "shop.till has no Till.rings; perhaps it is now shop.till:Till.ring"
            );
            assert_eq!(
                error("shop.till", "Root.open"),
                "shop.till has no Root; perhaps it is now shop.base:Root.open"
            );
            assert_eq!(error("shop.till", "unheard_of"), "shop.till has no unheard_of");
        });
    }

    #[test]
    fn a_pattern_is_every_class_that_has_the_method_itself() {
        with_packages(SHOP, |packages| {
            let found = packages.matching("shop", "embed", &|module, _| module.starts_with("shop.models."));
            assert_eq!(found.iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), ["A.embed"]);
        });
    }

    #[test]
    fn imports_that_go_round_end() {
        let files =
            [("a/__init__.py", ""), ("a/b.py", "from .c import f\n"), ("a/c.py", "from .b import f\n")];
        with_packages(&files, |packages| {
            assert!(packages.find("a.b", "f").is_err());
        });
    }

    #[test]
    fn tables_partials_and_defaults_hold_a_function() {
        let text = "from x import f\nTABLE = {'f': f}\ng = partial(f, 1)\nf()\ndef h(key=f): return [f]\nclass C:\n    all = [f]\n@f\ndef k(): ...\n";
        with_packages(&[("a/__init__.py", text)], |packages| {
            let lines: Vec<_> = packages.holders("a", "f").into_iter().map(|(_, line)| line).collect();
            assert_eq!(lines, [2, 3, 5, 7]);
        });
    }
}
