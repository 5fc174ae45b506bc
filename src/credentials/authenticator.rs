//! What to send to one URL of a registry.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};
use url::Url;

use super::tokens::Want;
use super::{Error, Tokens, realm};
use crate::oci::{Challenge, Challenges};

/// What a token must allow: to pull from one repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope(Arc<str>);

impl Scope {
    /// Pulling from `repository`, as the registry's own path names it.
    pub fn pull(repository: &str) -> Self {
        Self(format!("repository:{repository}:pull").into())
    }

    /// The scope as it stands in a token request.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who we are to one URL of a registry, and how it wants to be told.
pub struct Authenticator {
    registry: Url,
    realm: Option<Url>,
    tokens: Arc<Tokens>,
    /// What the registry asked for last. Nothing at first.
    scheme: Mutex<Option<Scheme>>,
}

#[derive(Clone)]
enum Scheme {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

impl Authenticator {
    /// For the registry at `registry`, whose tokens come from `realm`, or from its own origin where there is none.
    pub fn new(registry: Url, realm: Option<Url>, tokens: Arc<Tokens>) -> Self {
        Self { registry, realm, tokens, scheme: Mutex::default() }
    }

    /// The `Authorization` for a first try: what worked last, nothing where nothing was asked for yet. Fetches a token
    /// where none is held. Dropping the future is safe.
    ///
    /// # Errors
    /// Where what is known to be asked for cannot be had.
    pub async fn first(&self, scope: &Scope) -> Result<Option<HeaderValue>, Error> {
        match self.known() {
            None => Ok(None),
            Some(scheme) => self.meet(scheme, scope, None).await.map(Some),
        }
    }

    /// The `Authorization` for another try after a 401 with these `headers` to a request that carried `sent`.
    ///
    /// # Errors
    /// Where there is nothing else to send, and that is then so for a while: what was refused is not shown again at once.
    pub async fn after(&self, headers: &HeaderMap, sent: Option<&HeaderValue>, scope: &Scope) -> Result<HeaderValue, Error> {
        let scheme = self.challenge(headers)?;
        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = Some(scheme.clone());
        self.meet(scheme, scope, sent).await
    }

    /// A request for `scope` that carried `sent` was not answered with 401.
    pub fn accepted(&self, sent: &HeaderValue, scope: &Scope) {
        match self.known() {
            Some(Scheme::Basic) => self.tokens.accepted(),
            Some(Scheme::Bearer { realm, service }) => self.tokens.worked(&Want { realm, service, scope: scope.clone() }, sent),
            None => {}
        }
    }

    async fn meet(&self, scheme: Scheme, scope: &Scope, refused: Option<&HeaderValue>) -> Result<HeaderValue, Error> {
        match scheme {
            Scheme::Bearer { realm, service } => self.tokens.token(Want { realm, service, scope: scope.clone() }, refused).await,
            Scheme::Basic => {
                let header = self.tokens.basic(self.host())?;
                if refused == Some(&header) {
                    self.tokens.rejected();
                    return Err(Error::Rejected(self.host().to_owned()));
                }
                Ok(header)
            }
        }
    }

    fn challenge(&self, headers: &HeaderMap) -> Result<Scheme, Error> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        match Challenges::parse(values).preferred() {
            None => Err(Error::Missing("its challenge is neither Basic nor Bearer")),
            Some(Challenge::Basic) => Ok(Scheme::Basic),
            Some(Challenge::Bearer { realm, service, .. }) => {
                let realm = realm::admit(realm, self.realm.as_ref(), &self.registry)?;
                Ok(Scheme::Bearer { realm, service: service.clone() })
            }
        }
    }

    fn known(&self) -> Option<Scheme> {
        self.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn host(&self) -> &str {
        self.registry.host_str().unwrap_or_default()
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("registry", &self.registry.as_str()).finish_non_exhaustive()
    }
}
