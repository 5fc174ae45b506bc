//! Asking for manifests.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};

use super::connections::Use;
use super::fetch::Fetched;
use super::registry::Choice;
use super::{Error, Registry, status};
use crate::oci::{self, Algorithm, Digest, MAX_MANIFEST, Reference, RepositoryName};

/// What an upstream says of a manifest. Nothing in it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// `Docker-Content-Digest`, or the body's own digest where only a GET was answered.
    pub digest: Option<Digest>,
    /// `Content-Type`.
    pub media_type: Option<String>,
    /// `Content-Length`.
    pub length: Option<u64>,
}

/// A manifest as an upstream sent it. Not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestReply {
    /// `Docker-Content-Digest`.
    pub digest: Option<Digest>,
    /// `Content-Type`.
    pub media_type: Option<String>,
    /// The whole body, at most [`MAX_MANIFEST`] bytes.
    pub body: Bytes,
    /// Which of the registry's URLs sent it.
    pub url: usize,
}

impl Registry {
    /// What the upstream says of a manifest. Docker Hub does not count this as a pull, unlike the GET that a registry is
    /// sent where it refuses HEAD.
    ///
    /// # Errors
    /// See [`Error`]; 20 s at most. Dropping the future gives the request up.
    pub async fn head_manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<ManifestHead, Error> {
        let (head, _) =
            self.over_urls(Use::Question, Choice::default(), |url| self.head_manifest_at(url, repository, reference)).await?;
        Ok(head)
    }

    /// A manifest, whole.
    ///
    /// # Errors
    /// See [`Error`]; 20 s at most. Dropping the future gives the request up.
    pub async fn get_manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<ManifestReply, Error> {
        let (reply, _) =
            self.over_urls(Use::Question, Choice::default(), |url| self.get_manifest_at(url, repository, reference)).await?;
        Ok(reply)
    }

    async fn head_manifest_at(
        &self,
        url: usize,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestHead, Error> {
        let ask = self.ask(url, Method::HEAD, repository, &format!("manifests/{reference}"));
        let answer = self.fetch(url, &ask).await?;
        match answer.status {
            StatusCode::OK => {
                Ok(ManifestHead { digest: digest(&answer), media_type: media_type(&answer), length: answer.length() })
            }
            refused if status::refuses_head(refused) => {
                let reply = self.get_manifest_at(url, repository, reference).await?;
                let digest = reply.digest.unwrap_or_else(|| Digest::of(Algorithm::Sha256, &reply.body));
                Ok(ManifestHead { digest: Some(digest), media_type: reply.media_type, length: Some(reply.body.len() as u64) })
            }
            _ => Err(answer.failure(self.label())),
        }
    }

    async fn get_manifest_at(
        &self,
        url: usize,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestReply, Error> {
        let ask = self.ask(url, Method::GET, repository, &format!("manifests/{reference}"));
        let answer = self.fetch(url, &ask).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.failure(self.label()));
        }
        if answer.length().is_some_and(|length| length > MAX_MANIFEST) {
            return Err(answer.nonsense(self.label(), "sends a manifest of more than 4 MiB"));
        }
        let (digest, media_type) = (digest(&answer), media_type(&answer));
        let body = answer.body.collect(MAX_MANIFEST).await.map_err(|error| Error::from_egress(self.label(), &error))?;
        Ok(ManifestReply { digest, media_type, body, url })
    }
}

fn digest(answer: &Fetched) -> Option<Digest> {
    answer.header("docker-content-digest")?.parse().ok()
}

fn media_type(answer: &Fetched) -> Option<String> {
    answer.header(CONTENT_TYPE).and_then(oci::media_type).map(str::to_owned)
}
