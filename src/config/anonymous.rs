//! Registries with credentials that nobody will get anything from: where the default allows, an anonymous caller needs a
//! statement that does, and not every listener asks its callers who they are.

use std::sync::Arc;

use super::raw::Section;
use super::resource::is_pattern;
use super::{ANONYMOUS, Effect, Listener, Mode, Policy, Registry, Statement};

/// Warns of each registry that the callers of some listener will not get. `sections` are those that the registries were read
/// from.
pub(super) fn warn(sections: &[Section<'_>], registries: &[Arc<Registry>], listeners: &[Listener], policy: &Policy) {
    if policy.default == Effect::Deny || policy.mode == Mode::Shadow {
        return;
    }
    for (section, registry) in sections.iter().zip(registries) {
        let (Some(_), Some(value)) = (&registry.credentials, section.get("credentials")) else { continue };
        let allowed = |listener: &Listener| policy.statements.iter().any(|statement| allows(statement, registry, listener));
        let refused = listeners.iter().filter(|listener| is_anonymous(listener) && !allowed(listener));
        let refused: Vec<_> = refused.map(|listener| format!("{:?}", listener.name)).collect();
        if !refused.is_empty() {
            let names = refused.join(", ");
            value.warn(
                format!("anonymous clients will be refused: those of listener {names} are not asked who they are"),
                "write a [[policy.statement]] that allows this registry, or give the listener users or client_ca",
            );
        }
    }
}

fn is_anonymous(listener: &Listener) -> bool {
    listener.users.is_none() && listener.tls.as_ref().is_none_or(|tls| tls.clients.is_none())
}

/// Whether the statement may allow an anonymous caller of `listener` something of `registry`.
fn allows(statement: &Statement, registry: &Registry, listener: &Listener) -> bool {
    let when = &statement.when;
    let names_anonymous = |names: &Vec<String>| names.iter().any(|name| name == ANONYMOUS);
    // An id comes with the connection.
    let is_endpoint = |text: &String| is_pattern(text) || text.contains(':') || **text == *listener.name;
    let is_registry = |name: Option<&str>| name.is_none_or(|name| registry.name.covers(name));
    statement.effect == Effect::Allow
        && statement.mode == Mode::Enforce
        && when.principals.as_ref().is_none_or(names_anonymous)
        && !when.not_principals.as_ref().is_some_and(names_anonymous)
        && when.endpoints.as_ref().is_none_or(|endpoints| endpoints.iter().any(is_endpoint))
        && when.resources.as_ref().is_none_or(|resources| resources.iter().any(|resource| is_registry(resource.registry())))
}
