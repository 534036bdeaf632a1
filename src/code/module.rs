//! The outline of one Python file: its functions, classes and names, with lines and signatures.

use rustc_hash::FxHashMap;
use tree_sitter::{Node, Parser};

use crate::expr::Signature;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A `def`.
    Function(Function),
    /// A `class`.
    Class(Class),
    /// A name of another module, or (without a name) a module.
    Import {
        /// The module's dotted name.
        module: String,
        /// The name there.
        name: Option<String>,
    },
    /// Another name for something that the same module can see: `g = f`, `m = Class.method`.
    Alias(String),
    /// Anything else.
    Value,
}

/// What a call of a function gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its result.
    Function,
    /// A coroutine.
    Coroutine,
    /// A generator.
    Generator,
    /// An asynchronous generator.
    AsyncGenerator,
}

/// A function or method.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// The line of its `def`, from 1.
    pub line: u64,
    /// What a call gives.
    pub kind: Kind,
    /// Its parameters.
    pub signature: Signature,
    /// Its decorators without their arguments, the outermost first.
    pub decorators: Vec<String>,
}

/// A class.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// The line of its `class`, from 1.
    pub line: u64,
    /// Its bases as they are written, without type parameters.
    pub bases: Vec<String>,
    /// What its body defines.
    pub(super) names: Names,
}

/// What a module or a class defines.
pub(super) type Names = FxHashMap<String, Item>;

/// What a file defines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// Its names.
    pub(super) names: Names,
    /// Modules of which it takes all names.
    pub stars: Vec<String>,
}

impl Module {
    /// Reads the text of a module. `package` is what its relative imports begin at: its own name if it is a package
    /// (an `__init__.py`), else the name of the package that it is in. A part that is no Python is left out.
    pub fn parse(text: &str, package: &str) -> Self {
        let mut parser = Parser::new();
        // The grammar is linked in: it can only be of another version of the library if this was built wrongly.
        if parser.set_language(&tree_sitter_python::LANGUAGE.into()).is_err() {
            return Self::default();
        }
        let Some(tree) = parser.parse(text, None) else { return Self::default() };
        let mut reader = Reader { text, package, stars: Vec::new() };
        let mut names = Names::default();
        reader.block(tree.root_node(), &mut names, false);
        Self { names, stars: reader.stars }
    }
}

struct Reader<'a> {
    text: &'a str,
    package: &'a str,
    stars: Vec<String>,
}

impl Reader<'_> {
    fn text(&self, node: Node<'_>) -> &str {
        self.text.get(node.byte_range()).unwrap_or_default()
    }

    fn field(&self, node: Node<'_>, name: &str) -> String {
        node.child_by_field_name(name).map(|child| self.text(child).to_owned()).unwrap_or_default()
    }

    /// The statements of a body, also those below `if`, `try` and `with`.
    fn block(&mut self, node: Node<'_>, names: &mut Names, in_class: bool) {
        for statement in children(node) {
            match statement.kind() {
                "function_definition" | "class_definition" => {
                    self.definition(statement, &[], names, in_class);
                }
                "decorated_definition" => {
                    let decorators: Vec<_> = children(statement)
                        .filter(|child| child.kind() == "decorator")
                        .map(|child| self.decorator(child))
                        .collect();
                    if let Some(definition) = statement.child_by_field_name("definition") {
                        self.definition(definition, &decorators, names, in_class);
                    }
                }
                "import_from_statement" => self.import_from(statement, names),
                "import_statement" => self.import(statement, names),
                "expression_statement" => {
                    children(statement).for_each(|child| self.assignment(child, names));
                }
                // What only type checkers see is not there.
                "if_statement" if self.field(statement, "condition").ends_with("TYPE_CHECKING") => {
                    let branches = children(statement).filter(|child| child.kind() == "else_clause");
                    branches.for_each(|branch| self.block(branch, names, in_class));
                }
                "if_statement" | "elif_clause" | "else_clause" | "try_statement" | "except_clause"
                | "finally_clause" | "with_statement" | "block" => self.block(statement, names, in_class),
                _ => {}
            }
        }
    }

    fn decorator(&self, node: Node<'_>) -> String {
        let text = self.text(node).trim_start_matches('@');
        text.split('(').next().unwrap_or_default().trim().to_owned()
    }

    fn definition(&mut self, node: Node<'_>, decorators: &[String], names: &mut Names, in_class: bool) {
        let name = self.field(node, "name");
        let line = node.start_position().row as u64 + 1;
        if node.kind() == "class_definition" {
            let bases = node.child_by_field_name("superclasses");
            let bases = bases.into_iter().flat_map(children).filter(|base| base.kind() != "keyword_argument");
            let bases = bases.map(|base| self.text(base).split('[').next().unwrap_or_default().to_owned());
            let bases = bases.collect();
            let mut own = Names::default();
            if let Some(body) = node.child_by_field_name("body") {
                self.block(body, &mut own, true);
            }
            define(names, name, Item::Class(Class { line, bases, names: own }));
            return;
        }
        let is = |end: &str| decorators.iter().any(|it| it.rsplit('.').next() == Some(end));
        if is("overload") || is("setter") || is("deleter") {
            return;
        }
        let is_async = children_and_tokens(node).any(|child| child.kind() == "async");
        let yields = node.child_by_field_name("body").is_some_and(has_yield);
        let kind = match (is_async, yields) {
            (false, false) => Kind::Function,
            (true, false) => Kind::Coroutine,
            (false, true) => Kind::Generator,
            (true, true) => Kind::AsyncGenerator,
        };
        let mut signature = self.signature(node);
        signature.is_method = in_class && !is("staticmethod");
        let decorators = decorators.to_vec();
        define(names, name, Item::Function(Function { line, kind, signature, decorators }));
    }

    fn signature(&self, node: Node<'_>) -> Signature {
        let mut signature = Signature::default();
        let mut keyword_only = false;
        for parameter in node.child_by_field_name("parameters").into_iter().flat_map(children) {
            // `name: type` has the name, or `*name`, as its first child; with a default it is a field.
            let inner = parameter.child_by_field_name("name").or_else(|| match parameter.kind() {
                "typed_parameter" => parameter.named_child(0),
                _ => Some(parameter),
            });
            let Some(inner) = inner else { continue };
            let name = self.text(inner).trim_start_matches('*').trim().to_owned();
            match inner.kind() {
                "list_splat_pattern" => {
                    signature.varargs = Some(name);
                    keyword_only = true;
                }
                "dictionary_splat_pattern" => signature.varkw = Some(name),
                "keyword_separator" => keyword_only = true,
                "identifier" if keyword_only => signature.keyword_only.push(name),
                "identifier" => signature.positional.push(name),
                _ => {}
            }
        }
        signature
    }

    fn assignment(&mut self, node: Node<'_>, names: &mut Names) {
        let (Some(left), Some(right)) = (node.child_by_field_name("left"), node.child_by_field_name("right"))
        else {
            return;
        };
        if node.kind() != "assignment" || left.kind() != "identifier" {
            return;
        }
        let item = match right.kind() {
            "identifier" | "attribute" => Item::Alias(self.text(right).to_owned()),
            _ => Item::Value,
        };
        define(names, self.text(left).to_owned(), item);
    }

    fn import(&mut self, node: Node<'_>, names: &mut Names) {
        for child in children(node) {
            if child.kind() == "aliased_import" {
                let item = Item::Import { module: self.field(child, "name"), name: None };
                define(names, self.field(child, "alias"), item);
            } else {
                // `import a.b` makes the name `a`.
                let first = self.text(child).split('.').next().unwrap_or_default().to_owned();
                define(names, first.clone(), Item::Import { module: first, name: None });
            }
        }
    }

    fn import_from(&mut self, node: Node<'_>, names: &mut Names) {
        let module = self.absolute(&self.field(node, "module_name"));
        if children(node).any(|child| child.kind() == "wildcard_import") {
            self.stars.push(module);
            return;
        }
        let mut cursor = node.walk();
        for child in node.children_by_field_name("name", &mut cursor) {
            let (name, known_as) = if child.kind() == "aliased_import" {
                (self.field(child, "name"), self.field(child, "alias"))
            } else {
                (self.text(child).to_owned(), self.text(child).to_owned())
            };
            define(names, known_as, Item::Import { module: module.clone(), name: Some(name) });
        }
    }

    /// `..a` is the module `a` of the package above this one's.
    fn absolute(&self, module: &str) -> String {
        let name = module.trim_start_matches('.');
        let dots = module.len() - name.len();
        if dots == 0 {
            return name.to_owned();
        }
        let parts: Vec<_> = self.package.split('.').collect();
        let base = parts[..parts.len().saturating_sub(dots - 1)].join(".");
        if name.is_empty() { base } else { format!("{base}.{}", name.trim()) }
    }
}

/// The lines where importing a module puts a function into something else than a name: a list, a call, a default.
pub(super) fn held_at(text: &str, function: &str) -> Vec<u64> {
    fn walk(node: Node<'_>, is_it: &dyn Fn(Node<'_>) -> bool, lines: &mut Vec<u64>) {
        match node.kind() {
            // A body runs later, and then looks the name up.
            "function_definition" => {
                let parameters = node.child_by_field_name("parameters");
                return parameters.into_iter().for_each(|it| walk(it, is_it, lines));
            }
            "lambda" | "import_statement" | "import_from_statement" | "decorator" => return,
            "identifier" if is_it(node) => {
                let parent = node.parent().map_or("", |parent| parent.kind());
                // `f()` and `f.x` look it up; `g = f` is a name, which the hooks find.
                let is_name =
                    matches!(parent, "call" | "attribute" | "assignment" | "keyword_argument" | "type");
                let in_default = matches!(parent, "default_parameter" | "typed_default_parameter");
                let is_value = node.parent().and_then(|it| it.child_by_field_name("value")) == Some(node);
                if (!is_name && !in_default) || is_value {
                    lines.push(node.start_position().row as u64 + 1);
                }
                return;
            }
            _ => {}
        }
        children(node).for_each(|child| walk(child, is_it, lines));
    }
    let mut parser = Parser::new();
    let mut lines = Vec::new();
    if parser.set_language(&tree_sitter_python::LANGUAGE.into()).is_ok()
        && let Some(tree) = parser.parse(text, None)
    {
        walk(tree.root_node(), &|node| text.get(node.byte_range()) == Some(function), &mut lines);
    }
    lines
}

/// Of several definitions of a name the best one counts: fallbacks such as `f = None` are weaker than a `def`.
fn define(names: &mut Names, name: String, item: Item) {
    let rank = |item: &Item| match item {
        Item::Function(_) | Item::Class(_) => 3,
        Item::Import { .. } => 2,
        Item::Alias(_) => 1,
        Item::Value => 0,
    };
    if names.get(&name).is_none_or(|known| rank(known) <= rank(&item)) {
        names.insert(name, item);
    }
}

fn has_yield(node: Node<'_>) -> bool {
    match node.kind() {
        "yield" => true,
        "function_definition" | "class_definition" | "lambda" => false,
        _ => children(node).any(has_yield),
    }
}

fn children(node: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    (0..node.named_child_count()).filter_map(move |index| node.named_child(index as u32))
}

fn children_and_tokens(node: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    (0..node.child_count()).filter_map(move |index| node.child(index as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function<'a>(names: &'a Names, name: &str) -> &'a Function {
        let Some(Item::Function(function)) = names.get(name) else { panic!("{name}: {:?}", names.get(name)) };
        function
    }

    #[test]
    fn functions_have_their_kind_line_and_parameters() {
        let text = "def f(a, /, b: int = 1, *args, c, d: str = '', **kw):\n    return lambda: (yield)\n\n\
                    async def g(*, x): pass\ndef h():\n  for i in j:\n    yield i\nasync def k():\n  yield\n";
        let module = Module::parse(text, "pkg");
        let f = function(&module.names, "f");
        assert_eq!((f.line, f.kind), (1, Kind::Function));
        assert_eq!(f.signature.positional, ["a", "b"]);
        assert_eq!(f.signature.keyword_only, ["c", "d"]);
        assert_eq!(
            (f.signature.varargs.as_deref(), f.signature.varkw.as_deref()),
            (Some("args"), Some("kw"))
        );
        assert!(!f.signature.is_method);
        let g = function(&module.names, "g");
        assert_eq!(
            (g.line, g.kind, &g.signature.keyword_only[..]),
            (4, Kind::Coroutine, &["x".to_owned()][..])
        );
        assert_eq!(function(&module.names, "h").kind, Kind::Generator);
        assert_eq!(function(&module.names, "k").kind, Kind::AsyncGenerator);
    }

    #[test]
    fn typed_starred_parameters_are_known_for_what_they_are() {
        let module = Module::parse("def f(*args: int, **kw: str) -> None: ...\n", "pkg");
        let signature = &function(&module.names, "f").signature;
        assert_eq!((signature.varargs.as_deref(), signature.varkw.as_deref()), (Some("args"), Some("kw")));
    }

    #[test]
    fn classes_have_their_bases_and_methods() {
        let text = "class A(B, c.D[int], metaclass=M):\n  @staticmethod\n  def s(x): ...\n  @property\n  def p(self): ...\n  \
                    @p.setter\n  def p(self, v): ...\n  class Inner:\n    def m(self): ...\n  step = s\n";
        let module = Module::parse(text, "pkg");
        let Some(Item::Class(class)) = module.names.get("A") else { panic!() };
        assert_eq!(class.bases, ["B", "c.D"]);
        assert!(!function(&class.names, "s").signature.is_method);
        let property = function(&class.names, "p");
        assert_eq!((property.line, &property.decorators[..]), (5, &["property".to_owned()][..]));
        assert_eq!(class.names.get("step"), Some(&Item::Alias("s".into())));
        let Some(Item::Class(inner)) = class.names.get("Inner") else { panic!() };
        assert!(function(&inner.names, "m").signature.is_method);
    }

    #[test]
    fn imports_are_absolute_and_what_only_type_checkers_see_is_not_there() {
        let text = "import a.b\nimport c.d as e\nfrom .x import y as z\nfrom .. import w\nfrom q import *\n\
                    if TYPE_CHECKING:\n    from t import T\nelse:\n    T = object\n\
                    try:\n    from fast import f\nexcept ImportError:\n    f = None\n";
        let module = Module::parse(text, "pkg.sub");
        let import = |module: &str, name: Option<&str>| {
            Some(Item::Import { module: module.into(), name: name.map(Into::into) })
        };
        let get = |name: &str| module.names.get(name).cloned();
        assert_eq!(get("a"), import("a", None));
        assert_eq!(get("e"), import("c.d", None));
        assert_eq!(get("z"), import("pkg.sub.x", Some("y")));
        assert_eq!(get("w"), import("pkg", Some("w")));
        assert_eq!(get("T"), Some(Item::Alias("object".into())));
        assert_eq!(get("f"), import("fast", Some("f")));
        assert_eq!(module.stars, ["q"]);
    }

    #[test]
    fn what_is_no_python_costs_only_itself() {
        let module = Module::parse("def f(: ...\n\ndef g():\n    pass\n", "pkg");
        assert!(module.names.contains_key("g"));
    }
}
