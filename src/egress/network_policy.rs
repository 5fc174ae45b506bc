//! A plan as a Kubernetes NetworkPolicy.
//!
//! A NetworkPolicy knows addresses and no names. Names are therefore let out to all that the guard would let them lead to, and
//! stand beside it as a comment, for policies of other kinds that know names.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::guard::{GLOBAL_V6, METADATA_V4, SPECIAL_V4, SPECIAL_V6};
use super::plan::{Entry, Reason};

/// A plan's manifest; prints as YAML.
#[derive(Debug)]
pub struct NetworkPolicy<'a> {
    entries: Vec<&'a Entry>,
}

const HEAD: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: roadstead-egress
spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/name: roadstead
  policyTypes:
    - Egress
  egress:
";

impl<'a> NetworkPolicy<'a> {
    /// Of what `plan` says is connected to. Loopback is not in it: no NetworkPolicy is asked about that.
    pub fn new(plan: &'a [Entry]) -> Self {
        let inside = |entry: &&Entry| entry.host == "localhost" || entry.address().is_some_and(|address| address.is_loopback());
        Self { entries: plan.iter().filter(|entry| entry.via.is_none() && !inside(entry)).collect() }
    }

    fn names(&self) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().copied().filter(|entry| entry.address().is_none() && entry.reason != Reason::Dns)
    }

    /// Addresses that are written as such.
    fn addresses(&self) -> BTreeSet<(IpNet, u16)> {
        self.entries.iter().filter_map(|entry| Some((entry.address()?.into(), entry.port))).collect()
    }

    /// The networks in which names may lie though they are not public, each with the ports of its names.
    fn networks(&self) -> BTreeSet<(IpNet, u16)> {
        self.names().flat_map(|entry| entry.networks.iter().map(|network| (*network, entry.port))).collect()
    }

    fn comment(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Made by `roadstead egress plan --format networkpolicy`. Set podSelector and namespace to where roadstead runs."
        )?;
        writeln!(
            f,
            "# Where public IPv4 is reached by NAT64, add its prefix. The names that the rule for public addresses is for:"
        )?;
        for entry in self.names() {
            let registry = entry.registry.as_deref().unwrap_or("all");
            writeln!(f, "#   {}:{}  {}, {registry}", entry.host, entry.port, entry.reason.as_str())?;
        }
        Ok(())
    }
}

impl Display for NetworkPolicy<'_> {
    /// A whole YAML document with a newline at its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.comment(f)?;
        f.write_str(HEAD)?;
        if self.entries.is_empty() {
            // No rule at all would leave an empty key.
            return f.write_str("    []\n");
        }
        if self.entries.iter().any(|entry| entry.reason == Reason::Dns) {
            f.write_str("    # DNS\n    - ports:\n        - protocol: UDP\n          port: 53\n        - protocol: TCP\n          port: 53\n")?;
        }
        let ports: BTreeSet<u16> = self.names().map(|entry| entry.port).collect();
        if !ports.is_empty() {
            f.write_str("    # Names, at public addresses\n    - to:\n")?;
            everywhere(f)?;
            write_ports(f, ports)?;
        }
        for (network, port) in self.addresses().union(&self.networks()) {
            f.write_str("    - to:\n")?;
            block(f, network, &[] as &[IpNet])?;
            write_ports(f, [*port])?;
        }
        Ok(())
    }
}

/// All that the guard takes for public.
fn everywhere(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let metadata = METADATA_V4.iter().filter(|address| !SPECIAL_V4.iter().any(|net| net.contains(*address)));
    let refused: Vec<Ipv4Net> = SPECIAL_V4.into_iter().chain(metadata.map(|address| Ipv4Net::from(*address))).collect();
    block(f, Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0), &refused)?;
    block::<Ipv6Net>(f, GLOBAL_V6, &SPECIAL_V6)
}

fn block<N: Display>(f: &mut fmt::Formatter<'_>, network: impl Display, except: &[N]) -> fmt::Result {
    writeln!(f, "        - ipBlock:\n            cidr: \"{network}\"")?;
    if except.is_empty() {
        return Ok(());
    }
    writeln!(f, "            except:")?;
    except.iter().try_for_each(|network| writeln!(f, "              - \"{network}\""))
}

fn write_ports(f: &mut fmt::Formatter<'_>, ports: impl IntoIterator<Item = u16>) -> fmt::Result {
    f.write_str("      ports:\n")?;
    ports.into_iter().try_for_each(|port| writeln!(f, "        - protocol: TCP\n          port: {port}"))
}

#[cfg(test)]
mod tests {
    use yaml_rust2::{Yaml, YamlLoader};

    use super::*;
    use crate::config::Config;
    use crate::egress::plan::plan;

    fn policy(registries: &str) -> (Yaml, String) {
        let text = format!("[cache]\ndirectory = '/c'\n{registries}");
        let config = Config::parse(&text, std::path::Path::new("test.toml"), &|_| None).unwrap().0;
        let text = NetworkPolicy::new(&plan(&config)).to_string();
        let mut documents = YamlLoader::load_from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(documents.len(), 1);
        (documents.remove(0), text)
    }

    /// Whether the policy lets a connection out, read as Kubernetes reads it.
    fn lets_out(policy: &Yaml, address: &str, port: i64) -> bool {
        let address: std::net::IpAddr = address.parse().unwrap();
        let holds = |network: &Yaml| network.as_str().unwrap().parse::<IpNet>().unwrap().contains(&address);
        let within = |block: &Yaml| {
            let except = block["ipBlock"]["except"].as_vec();
            holds(&block["ipBlock"]["cidr"]) && !except.is_some_and(|except| except.iter().any(holds))
        };
        policy["spec"]["egress"].as_vec().unwrap().iter().any(|rule| {
            let to = rule["to"].as_vec();
            let tcp = |entry: &Yaml| entry["protocol"].as_str() == Some("TCP") && entry["port"].as_i64() == Some(port);
            rule["ports"].as_vec().unwrap().iter().any(tcp) && to.is_none_or(|to| to.iter().any(within))
        })
    }

    #[test]
    fn lets_out_what_the_guard_would() {
        let (policy, text) = policy(
            "[[registry]]\nname = 'a.test'\nurls = ['https://a.test']\nblob_hosts = ['10.0.0.5:9000', 'cdn.test:8443']\n\
             addresses = ['10.1.0.0/16']\n[[registry]]\nname = 'b.test'\nurls = ['https://b.test:444']\n\
             private_endpoint = '10.9.9.9:443'\n",
        );
        assert_eq!((policy["kind"].as_str(), policy["spec"]["policyTypes"][0].as_str()), (Some("NetworkPolicy"), Some("Egress")));
        for (address, port) in [
            ("1.1.1.1", 443),
            ("1.1.1.1", 8443),
            ("2606:4700::1111", 443),
            ("10.1.2.3", 443),
            ("10.0.0.5", 9000),
            ("10.9.9.9", 443),
            ("10.0.0.10", 53),
        ] {
            assert!(lets_out(&policy, address, port), "{address}:{port}\n{text}");
        }
        for (address, port) in [
            ("1.1.1.1", 80),
            ("1.1.1.1", 444),
            ("10.2.0.1", 443),
            ("10.0.0.5", 443),
            ("169.254.169.254", 443),
            ("168.63.129.16", 443),
            ("127.0.0.1", 443),
            ("fd00::1", 443),
            ("2002:a9fe:a9fe::1", 443),
        ] {
            assert!(!lets_out(&policy, address, port), "{address}:{port}\n{text}");
        }
        assert!(text.contains("#   cdn.test:8443  blob host, a.test\n") && !text.contains("b.test"), "{text}");
    }

    #[test]
    fn through_a_proxy_only_the_proxy_is_let_out() {
        let (policy, text) =
            policy("[egress]\nproxy = 'http://10.0.0.1:3128'\n[[registry]]\nname = 'a.test'\nurls = ['https://a.test']\n");
        assert!(lets_out(&policy, "10.0.0.1", 3128), "{text}");
        assert!(!lets_out(&policy, "1.1.1.1", 443) && !lets_out(&policy, "10.0.0.10", 53), "{text}");
        let (policy, _) = self::policy("[[registry]]\nname = 'a.test'\nurls = ['http://127.0.0.1:5555']\n");
        assert_eq!(policy["spec"]["egress"].as_vec().map(Vec::len), Some(0));
    }
}
