//! The macro that declares a JSON object once, for reading, writing and printing.

/// Declares a struct whose fields are the members of a JSON object, in frp's order.
///
/// A member has the field's name unless `= "name"` says otherwise. `as secret` keeps the value out
/// of `Debug`, `as id` prints its first four characters. A struct is itself never omitted where it
/// is a member, as in Go; its fields are, when they hold their zero value.
macro_rules! go_object {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[$field_meta:meta])*
                $field:ident : $ty:ty $(= $key:literal)? $(as $show:ident)?
            ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Default, PartialEq, Eq)]
        $vis struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl $crate::json::Object for $name {
            #[allow(unused_variables, reason = "an object without fields uses neither")]
            fn read_member(
                &mut self,
                key: &str,
                reader: &mut $crate::json::Reader<'_>,
            ) -> Result<(), $crate::json::JsonError> {
                // As Go does: the exact name first, then without regard to case.
                $(
                    if key == $crate::json::go_object!(@key $field $($key)?) {
                        return $crate::json::Value::read(&mut self.$field, reader);
                    }
                )*
                $(
                    if $crate::json::Reader::key_matches(
                        key,
                        $crate::json::go_object!(@key $field $($key)?),
                    ) {
                        return $crate::json::Value::read(&mut self.$field, reader);
                    }
                )*
                reader.skip_value()
            }

            #[allow(unused_variables, reason = "an object without fields uses it not")]
            fn write_members(&self, members: &mut $crate::json::Members<'_>) {
                $( members.add($crate::json::go_object!(@key $field $($key)?), &self.$field); )*
            }
        }

        impl $crate::json::Value for $name {
            fn read(
                &mut self,
                reader: &mut $crate::json::Reader<'_>,
            ) -> Result<(), $crate::json::JsonError> {
                reader.read_object_into(self)
            }

            fn write(&self, writer: &mut $crate::json::Writer<'_>) {
                writer.object(|members| $crate::json::Object::write_members(self, members));
            }

            fn is_omitted(&self) -> bool {
                false
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $( .field(
                        stringify!($field),
                        &$crate::json::go_object!(@show self.$field $($show)?),
                    ) )*
                    .finish()
            }
        }
    };

    (@key $field:ident $key:literal) => { $key };
    (@key $field:ident) => { stringify!($field) };

    (@show $self:ident . $field:ident) => { $self.$field };
    (@show $self:ident . $field:ident secret) => {
        $crate::ids::Redacted::new($crate::json::Value::is_omitted(&$self.$field))
    };
    (@show $self:ident . $field:ident id) => { $crate::ids::Short(&$self.$field) };
}

pub(crate) use go_object;
