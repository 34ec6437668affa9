//! The two macros that declare settings: `settings!` for values that have a default, `overrides!` for what single
//! databases and users may have. One line per setting is all there is; everything else is made of it.

/// Declares a group of settings of the global section: a struct with one typed field per setting, its default, its
/// reader, and a row of the table of settings each.
macro_rules! settings {
    (
        $(#[$about:meta])+
        pub struct $group:ident {
            $( $topic:literal {
                $( $(#[doc = $doc:literal])+ $field:ident $(as $key:literal)? : $kind:ty = $default:literal, reload: $reload:ident; )+
            } )+
            $( $(#[doc = $nested_doc:literal])+ $nested:ident: group $nested_group:ty; )*
        }
    ) => {
        $(#[$about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $group {
            $( $( $(#[doc = $doc])+ pub $field: <$kind as $crate::config::settings::kinds::Kind>::Value, )+ )+
            $( $(#[doc = $nested_doc])+ pub $nested: $nested_group, )*
        }

        impl $crate::config::settings::Group for $group {
            fn settings() -> Vec<&'static $crate::config::settings::Setting> {
                use $crate::config::settings::{Reload, Setting, kinds::Kind};
                static OWN: &[Setting] = &[ $( $( Setting {
                    key: $crate::config::settings::declare::key!($field $($key)?),
                    alias: None,
                    topic: $topic,
                    text: &[ $($doc),+ ],
                    value: $crate::config::settings::Declared::Default($default),
                    form: <$kind as Kind>::FORM,
                    legal: <$kind as Kind>::legal,
                    reload: $crate::config::settings::declare::reload!($reload),
                }, )+ )+ ];
                #[allow(unused_mut, reason = "not every group has groups in it")]
                let mut all: Vec<_> = OWN.iter().collect();
                $( all.extend(<$nested_group as $crate::config::settings::Group>::settings()); )*
                all
            }

            fn take(section: &mut $crate::config::settings::section::Section<'_>) -> Self {
                Self {
                    $( $( $field: section.take_or::<$kind>(
                        $crate::config::settings::declare::key!($field $($key)?), $default), )+ )+
                    $( $nested: <$nested_group as $crate::config::settings::Group>::take(section), )*
                }
            }

            fn show(&self, shown: &mut Vec<(&'static str, String)>) {
                use $crate::config::settings::kinds::Kind;
                $( $( shown.push((
                    $crate::config::settings::declare::key!($field $($key)?), <$kind as Kind>::show(&self.$field))); )+ )+
                $( self.$nested.show(shown); )*
            }

            fn keep_restart_only(&mut self, running: &Self, kept: &mut Vec<&'static str>) {
                use $crate::config::settings::Reload;
                $( $( if $crate::config::settings::declare::reload!($reload) == Reload::Restart
                    && self.$field != running.$field
                {
                    kept.push($crate::config::settings::declare::key!($field $($key)?));
                    self.$field = running.$field.clone();
                } )+ )+
                $( self.$nested.keep_restart_only(&running.$nested, kept); )*
            }
        }
    };
}

/// Declares what one database or one user may have: a struct of `Option`s, its reader, and its rows of the table.
/// `overrides` names the global setting that holds where this one is absent; other settings have an example.
macro_rules! overrides {
    (
        $(#[$about:meta])+
        pub struct $group:ident {
            $( $topic:literal {
                $( $(#[doc = $doc:literal])+ $field:ident $(or $alias:literal)? : $kind:ty,
                    $(example: $example:literal)? $(overrides: $global:ident)? ; )+
            } )+
        }
    ) => {
        $(#[$about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $group {
            $( $( $(#[doc = $doc])+ pub $field: Option<<$kind as $crate::config::settings::kinds::Kind>::Value>, )+ )+
        }

        impl $group {
            /// Every setting, in order.
            pub fn settings() -> Vec<&'static $crate::config::settings::Setting> {
                use $crate::config::settings::{Declared, Reload, Setting, kinds::Kind};
                static OWN: &[Setting] = &[ $( $( Setting {
                    key: stringify!($field),
                    alias: $crate::config::settings::declare::alias!($($alias)?),
                    topic: $topic,
                    text: &[ $($doc),+ ],
                    value: $(Declared::Example($example))? $(Declared::Overrides(stringify!($global)))?,
                    form: <$kind as Kind>::FORM,
                    legal: <$kind as Kind>::legal,
                    reload: Reload::Live,
                }, )+ )+ ];
                OWN.iter().collect()
            }

            /// Takes every setting out of a section.
            pub fn take(section: &mut $crate::config::settings::section::Section<'_>) -> Self {
                Self { $( $( $field: section.take::<$kind>(&[stringify!($field) $(, $alias)?]), )+ )+ }
            }
        }
    };
}

macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

macro_rules! alias {
    () => {
        None
    };
    ($alias:literal) => {
        Some($alias)
    };
}

macro_rules! reload {
    (live) => {
        Reload::Live
    };
    (restart) => {
        Reload::Restart
    };
}

pub(crate) use {alias, key, overrides, reload, settings};
