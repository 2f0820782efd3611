//! What a file may say: the keys, and the type of each. The raw structs (`raw.rs`) are declared
//! together with their shapes, so that there is one list of keys.

use std::collections::BTreeMap;

/// The type of a value.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Text.
    Str,
    /// A whole number, with Go's name of its type.
    Int(&'static str),
    /// Any number. Ours: frp has only whole ones.
    Float,
    /// A truth value.
    Bool,
    /// A list, of this.
    List(fn() -> Shape),
    /// A table with any keys, of this.
    Map(fn() -> Shape),
    /// A table with these keys.
    Table(&'static Table),
}

/// A table with known keys.
pub(super) struct Table {
    /// Go's name of its type, for errors about wrong types.
    pub(super) go_name: &'static str,
    /// The keys.
    pub(super) fields: &'static [Field],
    /// A key that is meant when a string stands in the place of the table.
    pub(super) short: Option<&'static str>,
    /// How `type` decides which of the keys exist.
    pub(super) variants: Option<&'static Variants>,
}

/// A key of a table.
pub(super) struct Field {
    /// Its name, as frp writes it.
    pub(super) key: &'static str,
    /// Its type.
    pub(super) shape: fn() -> Shape,
}

/// Tables whose keys depend on their `type`.
pub(super) struct Variants {
    /// What it is a type of: `proxy type`.
    pub(super) noun: &'static str,
    /// How frp's decoder says that an entry is wrong: `unmarshal ProxyConfig error: `.
    pub(super) context: &'static str,
    /// What frp's decoder says before any error of such a table inside of another.
    pub(super) outer: &'static str,
    /// frp's text when there is no type; else it is an unknown type like any other.
    pub(super) missing: Option<&'static str>,
    /// The keys of every type.
    pub(super) base: &'static [&'static str],
    /// The types, each with the keys that it has besides.
    pub(super) types: &'static [Variant],
}

/// A type of a table.
pub(super) struct Variant {
    /// The value of `type`.
    pub(super) name: &'static str,
    /// Go's name of the struct.
    pub(super) go_name: &'static str,
    /// The keys besides those of every type.
    pub(super) keys: &'static [&'static str],
}

impl Table {
    /// The field `key`: by its exact name, else as Go's decoder does it, whatever the case.
    pub(super) fn field(&self, key: &str) -> Option<&'static Field> {
        let exact = self.fields.iter().find(|field| field.key == key);
        exact.or_else(|| {
            self.fields
                .iter()
                .find(|field| field.key.eq_ignore_ascii_case(key))
        })
    }
}

/// Declares a struct and its shape from one list of keys.
macro_rules! raw {
    (
        $(#[$meta:meta])*
        $name:ident is $go_name:literal
        $(, short $short:literal)? $(, variants $variants:ident)?
        { $($key:literal $field:ident: $ty:ty,)* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Default, serde::Deserialize)]
        #[serde(default)]
        #[allow(dead_code, reason = "features that come later read the other fields")]
        pub(super) struct $name {
            $(#[serde(rename = $key)] pub(super) $field: $ty,)*
        }

        impl $crate::config::shape::Shaped for $name {
            fn shape() -> $crate::config::shape::Shape {
                static TABLE: $crate::config::shape::Table = $crate::config::shape::Table {
                    go_name: $go_name,
                    fields: &[$($crate::config::shape::Field {
                        key: $key,
                        shape: <$ty as $crate::config::shape::Shaped>::shape,
                    },)*],
                    short: $crate::config::shape::raw!(@option $($short)?),
                    variants: $crate::config::shape::raw!(@option $(&$variants)?),
                };
                    $crate::config::shape::Shape::Table(&TABLE)
            }
        }
    };
    (@option) => { None };
    (@option $value:expr) => { Some($value) };
}
pub(super) use raw;

/// A type that a file may have.
pub(super) trait Shaped {
    /// Its shape.
    fn shape() -> Shape;
}

impl Shaped for String {
    fn shape() -> Shape {
        Shape::Str
    }
}

impl Shaped for bool {
    fn shape() -> Shape {
        Shape::Bool
    }
}

/// Go's `float64`.
impl Shaped for f64 {
    fn shape() -> Shape {
        Shape::Float
    }
}

/// Go's `int`.
impl Shaped for isize {
    fn shape() -> Shape {
        Shape::Int("int")
    }
}

/// Go's `int64`.
impl Shaped for i64 {
    fn shape() -> Shape {
        Shape::Int("int64")
    }
}

impl<T: Shaped> Shaped for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: Shaped> Shaped for Vec<T> {
    fn shape() -> Shape {
        Shape::List(T::shape)
    }
}

impl<T: Shaped> Shaped for BTreeMap<String, T> {
    fn shape() -> Shape {
        Shape::Map(T::shape)
    }
}
