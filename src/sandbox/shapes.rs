//! JSON as eSIM Go writes it: the list shape and the detail shape of a bundle, which differ.
//!
//! | | list | detail |
//! | --- | --- | --- |
//! | `countries`, `roamingEnabled` | `[{name, region, iso}]` | `[{country: {name, region, iso}, networks, potentialNetworks}]` |
//! | `speed` | `["4G"]` | `{speeds: ["4G"], potentialSpeeds: []}` |
//! | groups | `groups` | `group` |
//!
//! Key order and values are those of the recorded list answer; the detail shape is known from typed clients only.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::bundles::{Bundle, Place, Plan, Trap};
use super::countries::Country;

/// Appends a bundle as the list shows it.
pub fn write_listed(bundle: &Bundle, out: &mut Vec<u8>) {
    write(bundle, if bundle.is(Trap::DetailShape) { Shape::Detail } else { Shape::List }, out);
}

/// Appends a bundle as its own endpoint shows it.
pub fn write_detail(bundle: &Bundle, out: &mut Vec<u8>) {
    write(bundle, Shape::Detail, out);
}

fn write(bundle: &Bundle, shape: Shape, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &Shaped { bundle, shape }).expect("plain maps and lists always become JSON");
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    List,
    Detail,
}

struct Shaped<'a> {
    bundle: &'a Bundle,
    shape: Shape,
}

#[derive(Clone, Serialize)]
struct Land {
    name: &'static str,
    region: &'static str,
    iso: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Coverage {
    country: Land,
    /// A region itself has no networks; its countries have.
    networks: Option<Vec<Network>>,
    potential_networks: Option<Vec<Network>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Network {
    name: String,
    brand_name: String,
    speeds: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Speeds {
    speeds: &'static [&'static str],
    potential_speeds: [&'static str; 0],
}

#[derive(Serialize)]
struct Allowance {
    r#type: &'static str,
    service: &'static str,
    description: String,
    amount: i64,
    unit: &'static str,
    unlimited: bool,
}

impl Serialize for Shaped<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { bundle, shape } = *self;
        let mut map = serializer.serialize_map(None)?;
        if bundle.has_name() {
            map.serialize_entry("name", &bundle.name())?;
        }
        map.serialize_entry("description", &bundle.description())?;
        self.places(&mut map)?;
        map.serialize_entry("dataAmount", &bundle.data_amount())?;
        if let Some(duration) = bundle.duration() {
            map.serialize_entry("duration", &duration)?;
        }
        if let Some(unit) = bundle.duration_unit() {
            map.serialize_entry("durationUnit", unit)?;
        }
        match shape {
            _ if bundle.is(Trap::NoSpeed) => {}
            _ if bundle.is(Trap::NullSpeed) => map.serialize_entry("speed", &())?,
            Shape::List => map.serialize_entry("speed", bundle.speeds())?,
            Shape::Detail => {
                map.serialize_entry("speed", &Speeds { speeds: bundle.speeds(), potential_speeds: [] })?;
            }
        }
        map.serialize_entry("autostart", &true)?;
        map.serialize_entry("unlimited", &bundle.unlimited())?;
        if !bundle.is(Trap::NoImage) {
            map.serialize_entry("imageUrl", &image(bundle))?;
        }
        self.price(&mut map)?;
        let singular = shape == Shape::Detail || bundle.is(Trap::SingularGroup);
        map.serialize_entry(if singular { "group" } else { "groups" }, &bundle.groups())?;
        map.serialize_entry("billingType", "FixedCost")?;
        if bundle.is(Trap::NullAllowances) {
            map.serialize_entry("allowances", &())?;
        } else if !bundle.is(Trap::NoAllowances) {
            map.serialize_entry("allowances", &allowances(bundle))?;
        }
        map.end()
    }
}

impl Shaped<'_> {
    fn places<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let Self { bundle, shape } = *self;
        let base = Land { name: bundle.place_name(), region: bundle.region(), iso: bundle.iso() };
        let roaming: Option<Vec<Land>> = match bundle.place {
            Place::Country(_) => None,
            Place::Region(region) => Some(region.countries().map(land).collect()),
        };
        match shape {
            Shape::List => map.serialize_entry("countries", &[base])?,
            Shape::Detail => map.serialize_entry("countries", &[self.coverage(base, roaming.is_none())])?,
        }
        match (roaming, shape) {
            (None, _) if bundle.is(Trap::NullRoaming) => map.serialize_entry("roamingEnabled", &()),
            (None, Shape::List) => Ok(()),
            (None, Shape::Detail) => map.serialize_entry("roamingEnabled", &()),
            (Some(lands), Shape::List) => map.serialize_entry("roamingEnabled", &lands),
            (Some(lands), Shape::Detail) => {
                let covered: Vec<Coverage> = lands.into_iter().map(|land| self.coverage(land, true)).collect();
                map.serialize_entry("roamingEnabled", &covered)
            }
        }
    }

    fn coverage(&self, country: Land, has_networks: bool) -> Coverage {
        let networks = has_networks.then(|| {
            let name = format!("{} Mobile", country.name);
            vec![Network { brand_name: name.clone(), name, speeds: self.bundle.speeds() }]
        });
        Coverage { country, networks, potential_networks: None }
    }

    /// A JSON number without a trailing zero, as the recorded 6.9: whole ones without a point.
    fn price<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self.bundle.price() {
            None if self.bundle.is(Trap::NoPrice) => Ok(()),
            None => map.serialize_entry("price", &()),
            Some(cents) if cents % 100 == 0 => map.serialize_entry("price", &(cents / 100)),
            Some(cents) => map.serialize_entry("price", &(cents as f64 / 100.0)),
        }
    }
}

fn land(country: &'static Country) -> Land {
    Land { name: country.name, region: country.region, iso: country.iso }
}

fn image(bundle: &Bundle) -> String {
    let place = bundle.place_name().replace([' ', ','], "_");
    format!("https://esimgo-cms-images-prod.s3.eu-west-1.amazonaws.com/{place}_5ad8a57392.jpg")
}

fn allowances(bundle: &Bundle) -> [Allowance; 1] {
    let description = match bundle.plan {
        Plan::Fixed { gigabytes, days } => format!("ESIM_{gigabytes}GB_{days}D_U (data)"),
        Plan::Unlimited { tier, days } => format!("ESIM_{}_{days}D_U (data)", tier.name().to_uppercase()),
    };
    [Allowance {
        r#type: "DATA",
        service: "ROAMING",
        description,
        amount: bundle.data_amount(),
        unit: "MB",
        unlimited: bundle.unlimited(),
    }]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;
    use crate::sandbox::bundles::generate;

    fn listed(bundle: &Bundle) -> Value {
        let mut out = Vec::new();
        write_listed(bundle, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    fn detail(bundle: &Bundle) -> Value {
        let mut out = Vec::new();
        write_detail(bundle, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn the_list_shape_is_the_recorded_one() {
        let bundle = Bundle { cents: 690, ..generate(1, 60)[0] };
        assert_eq!(
            listed(&bundle),
            json!({
                "name": "esim_1GB_7D_AD_V2",
                "description": "eSIM, 1GB, 7 Days, Andorra, V2",
                "countries": [{ "name": "Andorra", "region": "Europe", "iso": "AD" }],
                "dataAmount": 1000,
                "duration": 7,
                "durationUnit": "day",
                "speed": ["2G", "3G", "4G", "5G"],
                "autostart": true,
                "unlimited": false,
                "imageUrl": "https://esimgo-cms-images-prod.s3.eu-west-1.amazonaws.com/Andorra_5ad8a57392.jpg",
                "price": 6.9,
                "groups": ["Standard Fixed"],
                "billingType": "FixedCost",
                "allowances": [{
                    "type": "DATA",
                    "service": "ROAMING",
                    "description": "ESIM_1GB_7D_U (data)",
                    "amount": 1000,
                    "unit": "MB",
                    "unlimited": false
                }]
            })
        );
    }

    #[test]
    fn the_detail_shape_differs() {
        let bundles = generate(1, 200);
        let shown = detail(&bundles[0]);
        assert_eq!(shown["countries"][0]["country"]["iso"], "AD");
        assert_eq!(shown["countries"][0]["networks"][0]["brandName"], "Andorra Mobile");
        assert_eq!(shown["speed"]["speeds"][3], "5G");
        assert_eq!(shown["group"], json!(["Standard Fixed"]));
        assert_eq!(shown.get("groups"), None);

        let regional = bundles.iter().find(|bundle| matches!(bundle.place, Place::Region(_))).unwrap();
        let shown = detail(regional);
        assert_eq!(shown["countries"][0]["networks"], Value::Null);
        assert_eq!(shown["roamingEnabled"][0]["country"]["iso"], "EG");
        assert_eq!(listed(regional)["countries"][0]["iso"], "Africa");
        assert_eq!(listed(regional)["roamingEnabled"][0]["iso"], "EG");
    }

    #[test]
    fn each_trap_shows_on_the_wire() {
        let plain = generate(1, 60)[0];
        let trapped = |trap| listed(&Bundle { trap: Some(trap), ..plain });
        assert_eq!(trapped(Trap::NullSpeed).get("speed"), Some(&Value::Null));
        assert_eq!(trapped(Trap::NoSpeed).get("speed"), None);
        assert_eq!(trapped(Trap::NoDurationUnit).get("durationUnit"), None);
        assert_eq!(trapped(Trap::Months)["durationUnit"], "month");
        assert_eq!(trapped(Trap::NullAllowances).get("allowances"), Some(&Value::Null));
        assert_eq!(trapped(Trap::NoAllowances).get("allowances"), None);
        assert_eq!(trapped(Trap::NullRoaming).get("roamingEnabled"), Some(&Value::Null));
        assert_eq!(trapped(Trap::NoImage).get("imageUrl"), None);
        assert_eq!(trapped(Trap::Free)["price"], 0);
        assert_eq!(trapped(Trap::Alpha3Iso)["countries"][0]["iso"], "AND");
        assert_eq!(trapped(Trap::SingularGroup)["group"][0], "Standard Fixed");
        assert_eq!(trapped(Trap::DetailShape)["countries"][0]["country"]["iso"], "AD");
        assert_eq!(trapped(Trap::TwoGroups)["groups"], json!(["Standard Fixed", "Regional Bundles"]));
        assert_eq!(trapped(Trap::Duplicate)["name"], plain.name());
        assert_eq!(trapped(Trap::InvalidIso)["countries"][0]["iso"], "");
        assert!(trapped(Trap::NegativePrice)["price"].as_f64().unwrap() < 0.0);
        assert_eq!(trapped(Trap::NullPrice).get("price"), Some(&Value::Null));
        assert_eq!(trapped(Trap::NoPrice).get("price"), None);
        assert_eq!(trapped(Trap::NoDuration).get("duration"), None);
        assert_eq!(trapped(Trap::NoName).get("name"), None);
    }
}
