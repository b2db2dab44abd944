//! The server as a whole: opening, serving, closing.

use std::{
    path::PathBuf,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tower::ServiceExt as _;

use crate::{
    auth::{KeyError, Verifier},
    config::{Config, Limits, Retention},
    http::{self, State},
    metrics::Metrics,
    patient::Patient,
    snapshots::Snapshots,
    store::{SqliteStore, Store, StoreError},
};

/// A sync server. Cheap to clone: all clones are one server.
#[derive(Clone, Debug)]
pub struct Server {
    state: State,
    retention: Retention,
    closing: watch::Sender<bool>,
}

/// Why a server could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No token could be checked.
    #[error("tokens cannot be checked")]
    Keys(#[from] KeyError),
    /// The database cannot be used.
    #[error("the database cannot be opened")]
    Store(#[from] StoreError),
}

impl Server {
    /// Opens the database, and makes it where it is missing. Nothing listens yet.
    ///
    /// # Errors
    /// [`OpenError`], where the database or the keys cannot be used.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let verifier = Verifier::new(&config)?;
        let store = SqliteStore::open(&config)?;
        let mut beside = config.database.clone().into_os_string();
        beside.push("-snapshots");
        Ok(Self::assemble(Arc::new(store), verifier, config, Some(beside.into())))
    }

    /// Takes a store that is open already, one of another kind for instance. What the configuration says of
    /// the database is not looked at.
    ///
    /// # Errors
    /// [`OpenError::Keys`], where the keys cannot be used.
    pub fn with_store(store: Arc<dyn Store>, config: Config) -> Result<Self, OpenError> {
        let verifier = Verifier::new(&config)?;
        Ok(Self::assemble(store, verifier, config, None))
    }

    fn assemble(
        store: Arc<dyn Store>,
        verifier: Verifier,
        config: Config,
        snapshots: Option<PathBuf>,
    ) -> Self {
        let (closing, closed) = watch::channel(false);
        let state = State {
            store,
            snapshots: Snapshots::new(&config, snapshots),
            verifier: Arc::new(verifier),
            metrics: Arc::new(Metrics::new()),
            limits: Arc::new(config.limits),
            now: config.now,
            slots: Default::default(),
            closing: closed,
        };
        Self { state, retention: config.retention, closing }
    }

    /// The protocol's paths, to be put into an application's own router, at its root or under a prefix.
    ///
    /// The application then serves them, runs [`tend`](Self::tend) beside, and calls [`close`](Self::close).
    pub fn router(&self) -> Router {
        http::router(self.state.clone())
    }

    /// Forgets what has outlived its retention, from time to time. It never ends; drop it to stop.
    pub async fn tend(&self) {
        loop {
            if let Err(error) = self.forget().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "forgetting failed");
            }
            sleep(self.retention.interval).await;
        }
    }

    /// Forgets what has outlived its retention, once, in small steps: nobody waits long for one.
    ///
    /// # Errors
    /// [`StoreError`], where a step failed. The steps before it are done.
    pub async fn forget(&self) -> Result<(), StoreError> {
        while self.state.store.purge(self.state.now.millis()).await?.more {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Serves until `shutdown` ends, and then finishes what is under way and closes the store.
    ///
    /// # Errors
    /// [`StoreError`], where the store could not be closed. Everything that was acknowledged is kept all the same.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), StoreError> {
        let (graceful, router) = (GracefulShutdown::new(), self.router());
        tokio::select! {
            () = shutdown => {}
            () = self.tend() => {}
            () = accept(&listener, &router, &self.state.limits, &graceful) => {}
        }
        drop(listener);
        self.closing.send_replace(true);
        if timeout(self.state.limits.request_time, graceful.shutdown()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
        self.close().await
    }

    /// Ends event streams, lets calls under way finish, and leaves the database whole in one file.
    ///
    /// # Errors
    /// [`StoreError`], where the store could not be closed. Everything that was acknowledged is kept all the same.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.closing.send_replace(true);
        self.state.snapshots.clear();
        self.state.store.close().await
    }
}

/// Takes connections, as many as may be open at once. It never ends.
async fn accept(listener: &TcpListener, router: &Router, limits: &Limits, graceful: &GracefulShutdown) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head_time);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .keep_alive_interval(limits.head_time)
        .keep_alive_timeout(limits.head_time);
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                connection(stream, place, &builder, router.clone(), limits.head_time, graceful);
            }
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would only burn time.
                tracing::warn!(%error, "a connection could not be taken");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn connection(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    builder: &auto::Builder<TokioExecutor>,
    router: Router,
    patience: Duration,
    graceful: &GracefulShutdown,
) {
    // Small answers should not wait for more to send. Without it they are only slower.
    let _ = stream.set_nodelay(true);
    let asked = Arc::new(AtomicBool::new(false));
    let ask = asked.clone();
    let service = TowerToHyperService::new(router.map_request(move |request: axum::http::Request<_>| {
        ask.store(true, Ordering::Relaxed);
        request
    }));
    let serving = graceful
        .watch(builder.serve_connection(TokioIo::new(Patient::new(stream, patience)), service).into_owned());
    tokio::spawn(async move {
        let _place = place;
        let mut serving = pin!(serving);
        // hyper's own timeout starts only when it knows which version of HTTP is spoken.
        // (How a connection ends is the client's affair.)
        if timeout(patience, &mut serving).await.is_err() && asked.load(Ordering::Relaxed) {
            let _ = serving.await;
        }
    });
}
