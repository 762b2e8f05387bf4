//! What Pingora asks of a stream, and a stream around another one passes on.

/// The stream inside.
pub(super) trait Around {
    fn inner(&self) -> &pingora::protocols::Stream;
}

/// Answers Pingora's questions about `$stream` with what the stream inside says.
macro_rules! pass_on {
    ($stream:ty) => {
        impl ::pingora::protocols::UniqueID for $stream {
            fn id(&self) -> ::pingora::protocols::UniqueIDType {
                $crate::proxy::passed::Around::inner(self).id()
            }
        }

        impl ::pingora::protocols::Ssl for $stream {}

        impl ::pingora::protocols::Peek for $stream {}

        impl ::pingora::protocols::GetTimingDigest for $stream {
            fn get_timing_digest(&self) -> Vec<Option<::pingora::protocols::TimingDigest>> {
                $crate::proxy::passed::Around::inner(self).get_timing_digest()
            }
        }

        impl ::pingora::protocols::GetProxyDigest for $stream {
            fn get_proxy_digest(
                &self,
            ) -> Option<std::sync::Arc<::pingora::protocols::raw_connect::ProxyDigest>> {
                $crate::proxy::passed::Around::inner(self).get_proxy_digest()
            }
        }

        impl ::pingora::protocols::GetSocketDigest for $stream {
            fn get_socket_digest(
                &self,
            ) -> Option<std::sync::Arc<::pingora::protocols::SocketDigest>> {
                $crate::proxy::passed::Around::inner(self).get_socket_digest()
            }
        }
    };
}

pub(super) use pass_on;
