//! The vendors that speak SOAP 1.1: their credentials, and how they show their records.

use crate::support::server::Answer;

use super::fake::{Call, Item, Vendor, rfc3339};

const ENVELOPE: &str = "http://schemas.xmlsoap.org/soap/envelope/";

fn envelope(header: &str, body: &str) -> Answer {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soap-env:Envelope xmlns:soap-env=\"{ENVELOPE}\">\
         <soap-env:Header>{header}</soap-env:Header><soap-env:Body>{body}</soap-env:Body></soap-env:Envelope>"
    );
    Answer::new(200, text).header("content-type", "text/xml; charset=utf-8")
}

fn all(call: &Call<'_>, record: impl Fn(&Item) -> String) -> String {
    call.items.iter().map(record).collect()
}

/// A flight's number and departure: what names an offer.
pub fn flight(id: u64) -> (String, &'static str) {
    ((100 + id).to_string(), "2027-05-02T10:00:00")
}

pub static SABRE: Vendor = Vendor {
    contract: "sabre",
    credentials: &[("usernameToken", "7971:sabre-password")],
    tokens: Some(("SessionCreateRQ", sabre_session)),
    answer: sabre,
};

/// What `SABRE_SESSION_CREATE` holds.
pub const SABRE_SESSION_CREATE: &str = concat!(
    "<soap-env:Envelope xmlns:soap-env=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap-env:Header>",
    "<eb:MessageHeader xmlns:eb=\"http://www.ebxml.org/namespaces/messageHeader\" eb:version=\"1.0\">",
    "<eb:From><eb:PartyId>agency</eb:PartyId></eb:From><eb:To><eb:PartyId>webservices.sabre.com</eb:PartyId></eb:To>",
    "<eb:CPAId>ABCD</eb:CPAId><eb:ConversationId>c</eb:ConversationId><eb:Service>SessionCreateRQ</eb:Service>",
    "<eb:Action>SessionCreateRQ</eb:Action><eb:MessageData><eb:MessageId>m</eb:MessageId>",
    "<eb:Timestamp>2026-11-23T00:00:00Z</eb:Timestamp></eb:MessageData></eb:MessageHeader>",
    "<wsse:Security xmlns:wsse=\"http://schemas.xmlsoap.org/ws/2002/12/secext\"><wsse:UsernameToken>",
    "<wsse:Username>7971</wsse:Username><wsse:Password>sabre-password</wsse:Password>",
    "<Organization>ABCD</Organization><Domain>DEFAULT</Domain></wsse:UsernameToken></wsse:Security>",
    "</soap-env:Header><soap-env:Body><SessionCreateRQ xmlns=\"http://www.opentravel.org/OTA/2002/11\">",
    "<POS><Source PseudoCityCode=\"ABCD\"/></POS></SessionCreateRQ></soap-env:Body></soap-env:Envelope>",
);

fn sabre_session(token: &str) -> Answer {
    let header = format!(
        "<wsse:Security xmlns:wsse=\"http://schemas.xmlsoap.org/ws/2002/12/secext\"><wsse:BinarySecurityToken \
         valueType=\"String\" EncodingType=\"wsse:Base64Binary\">{token}</wsse:BinarySecurityToken></wsse:Security>"
    );
    let body = "<SessionCreateRS xmlns=\"http://www.opentravel.org/OTA/2002/11\" version=\"1\" status=\"Approved\">\
                <ConversationId>c</ConversationId></SessionCreateRS>";
    envelope(&header, body)
}

fn sabre(call: &Call<'_>) -> Answer {
    let offer = |item: &Item, place: u64, fare: u64| {
        let (number, departure) = flight(item.id);
        format!(
            "<PricedItinerary SequenceNumber=\"{place}\"><AirItinerary><OriginDestinationOptions><OriginDestinationOption>\
             <FlightSegment DepartureDateTime=\"{departure}\" FlightNumber=\"{number}\"><MarketingAirline Code=\"AA\"/>\
             </FlightSegment></OriginDestinationOption></OriginDestinationOptions></AirItinerary><AirItineraryPricingInfo>\
             <ItinTotalFare><TotalFare Amount=\"{fare}.50\" CurrencyCode=\"USD\"/></ItinTotalFare>\
             </AirItineraryPricingInfo></PricedItinerary>"
        )
    };
    // The same flights once more, in a dearer fare.
    let both = |item: &Item| {
        let fare = 300 + 5 * item.version;
        offer(item, 2 * item.id, fare + 99) + &offer(item, 2 * item.id + 1, fare)
    };
    envelope(
        "",
        &format!(
            "<OTA_AirLowFareSearchRS xmlns=\"http://www.opentravel.org/OTA/2003/05\" Version=\"6.1.0\"><Success/>\
             <PricedItineraries>{}</PricedItineraries></OTA_AirLowFareSearchRS>",
            all(call, both)
        ),
    )
}

pub static TRAVELPORT: Vendor = Vendor {
    contract: "travelport",
    credentials: &[("basic", "Universal API/uAPI123:travelport-password")],
    tokens: None,
    answer: travelport,
};

fn travelport(call: &Call<'_>) -> Answer {
    // Keys are made again for each answer.
    let salt = call.items.iter().map(|item| item.touched).max().unwrap_or_default();
    let segment = |item: &Item| {
        let (number, departure) = flight(item.id);
        format!(
            "<air:AirSegment Key=\"{salt}-s{}\" Carrier=\"UA\" FlightNumber=\"{number}\" DepartureTime=\"{departure}\"/>",
            item.id
        )
    };
    let point = |item: &Item| {
        format!(
            "<air:AirPricePoint Key=\"{salt}-p{0}\" TotalPrice=\"USD{1}.10\" BasePrice=\"USD{1}.00\" Taxes=\"USD0.10\">\
             <air:AirPricingInfo Key=\"{salt}-i{0}\"><air:FlightOptionsList><air:FlightOption><air:Option>\
             <air:BookingInfo BookingCode=\"Y\" SegmentRef=\"{salt}-s{0}\"/></air:Option></air:FlightOption>\
             </air:FlightOptionsList></air:AirPricingInfo></air:AirPricePoint>",
            item.id,
            400 + 5 * item.version
        )
    };
    envelope(
        "",
        &format!(
            "<air:LowFareSearchRsp xmlns:air=\"http://www.travelport.com/schema/air_v52_0\" TransactionId=\"{salt}\">\
             <air:AirSegmentList>{}</air:AirSegmentList><air:AirPricePointList>{}</air:AirPricePointList>\
             </air:LowFareSearchRsp>",
            all(call, segment),
            all(call, point)
        ),
    )
}

pub static BANK: Vendor = Vendor {
    contract: "soap-bank",
    credentials: &[("usernameToken", "reader:bank-password")],
    tokens: None,
    answer: bank,
};

fn bank(call: &Call<'_>) -> Answer {
    let transaction = |item: &Item| {
        let status = if item.version == 0 { "PDNG" } else { "BOOK" };
        format!(
            "<ns2:Transaction><ns2:Reference>TX{:06}</ns2:Reference><ns2:Amount Currency=\"EUR\">12.30</ns2:Amount>\
             <ns2:Status>{status}</ns2:Status><ns2:BookingTime>{}</ns2:BookingTime></ns2:Transaction>",
            item.id,
            rfc3339(item.born)
        )
    };
    envelope(
        "",
        &format!(
            "<ns2:GetTransactionsResponse xmlns:ns2=\"urn:example:bank:statements:2009\"><ns2:Transactions>{}\
             </ns2:Transactions></ns2:GetTransactionsResponse>",
            all(call, transaction)
        ),
    )
}
