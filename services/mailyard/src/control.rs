//! The control door of a simulator, for whoever drives one over HTTP.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Why the simulator did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached.
    #[error("the simulator cannot be reached: {0}")]
    Unreachable(String),
    /// It refused.
    #[error("the simulator refused ({status}): {detail}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        detail: String,
    },
}

fn unreachable(error: impl std::fmt::Display) -> Error {
    Error::Unreachable(error.to_string())
}

/// A control door.
#[derive(Clone, Debug)]
pub struct Control {
    address: String,
}

impl Control {
    /// The door at this URL.
    pub fn new(url: &str) -> Self {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        Self { address: address.to_owned() }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// Tells it something.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.call(Method::POST, path, body.to_string().into()).await
    }

    /// Takes something back.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete(&self, path: &str) -> Result<Value, Error> {
        self.call(Method::DELETE, path, Bytes::new()).await
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Value, Error> {
        let stream = TcpStream::connect(&self.address).await.map_err(unreachable)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.address)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(unreachable)?;
        let response = sender.send_request(request).await.map_err(unreachable)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(unreachable)?.to_bytes();
        let value: Value = serde_json::from_slice(&body).map_err(unreachable)?;
        if status.is_success() {
            return Ok(value);
        }
        let detail = value["error"].as_str().unwrap_or_default().to_owned();
        Err(Error::Refused { status, detail })
    }
}
