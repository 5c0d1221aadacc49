"""What the example documents of make_examples say: the business of Norrvik Instruments, a company that does not exist."""

from __future__ import annotations

from datetime import date

INVOICE = [
    ("Title", "Invoice INV-2026-0417"),
    ("Normal", "Norrvik Instruments AS, Skippergata 21, Trondheim. To: Wasserwerk Oldenburg, Customer number 20318."),
    ("Normal", "Date of invoice: 28 April 2026. Payable within 30 days, by 28 May 2026, without discount."),
    ("Heading1", "Items"),
    (
        "Normal",
        "4 buoys NV-2200 with solar panel 28 W, serial numbers 22-0451 to 22-0454, 6,480.00 EUR each: 25,920.00 EUR",
    ),
    ("Normal", "4 turbidity probes NV-310 with copper tape, 1,190.00 EUR each: 4,760.00 EUR"),
    ("Normal", "Delivery and putting out on the Hunte, two days: 1,850.00 EUR"),
    ("Heading1", "Total"),
    ("Normal", "Net 32,530.00 EUR, VAT 19 percent 6,180.70 EUR, total 38,710.70 EUR."),
    ("Normal", "Please give INV-2026-0417 and your customer number with the transfer. Contact: Sofia Lindqvist."),
]
INVOICE_GERMAN = [
    ("Title", "Rechnung INV-2026-0522"),
    ("Normal", "An die Hafengesellschaft Bremen, Kundennummer 20077. Rechnungsdatum: 1. Mai 2026."),
    ("Heading1", "Leistung"),
    (
        "Normal",
        "Erste Rate der Jahrespauschale aus dem Wartungsvertrag WV-2026-031 für zwölf Messbojen: 19.200,00 Euro.",
    ),
    ("Normal", "Zusätzlich: Bergung der Boje 22-0288 nach Kollision mit einer Schute am 11. März 2026, 2.340,00 Euro."),
    ("Heading1", "Betrag"),
    ("Normal", "Netto 21.540,00 Euro, Umsatzsteuer 4.092,60 Euro, zu zahlen sind 25.632,60 Euro bis zum 15. Mai 2026."),
]
DATASHEET = [
    ("Title", "NV-310 turbidity probe"),
    (
        "Normal",
        "The NV-310 measures how much light particles in the water scatter. It fits every NV-2200 buoy made since 2019.",
    ),
    ("Heading1", "Measuring"),
    (
        "Normal",
        "Range 0 to 1,000 NTU. Accuracy 2 percent of the reading or 0.3 NTU, whichever is greater. Wavelength 860 nm.",
    ),
    ("Heading2", "Response time"),
    (
        "Normal",
        "Ninety percent of a change shows after 1.8 seconds. One reading every ten seconds is enough in rivers.",
    ),
    ("Heading1", "Mechanics"),
    (
        "Normal",
        "Diameter 36 mm, length 214 mm, weight 390 g. Housing of titanium grade 2. Pressure-proof down to 60 metres.",
    ),
    ("Heading1", "Power"),
    ("Normal", "9 to 16 volts, 85 milliwatts on average. The light source NV-310-L lasts about 30,000 hours."),
]
WARRANTY = [
    ("Title", "Warranty terms"),
    ("Heading1", "Period"),
    ("Normal", "Buoys are covered for 36 months and probes for 24 months from the day of delivery. Batteries: 12 months."),
    ("Heading1", "What is not covered"),
    ("Normal", "Damage by ice, lightning, ships or vandals; growth of algae and mussels; and devices opened by anyone but a "
     "technician we trained. Opening the seal at valve V1 ends the warranty."),
    ("Heading1", "How to claim"),
    ("Normal", "Report the defect within two weeks of noticing it, with the serial number and photographs. We repair or "
     "replace, at our choice, and pay the freight in both directions within Europe."),
]  # fmt: skip
SUPPLY_AGREEMENT = [
    ("Heading 1", "Supply agreement SA-2026-08"),
    ("Normal", "between Norrvik Instruments AS, Trondheim, and Solstrøm AS, Tromsø, signed on 17 April 2026."),
    ("Heading 2", "Goods"),
    ("Normal", "Solstrøm supplies solar panels of 28 watts that survive being frozen into ice down to minus 40 degrees."),
    ("Table", "Year|Panels|Price each\n2026|600|74.50 EUR\n2027|900|71.00 EUR"),
    ("Heading 2", "Delivery"),
    ("Normal", "Lead time is six weeks. For each full week of delay the price of the late panels falls by two percent, "
     "by ten percent at most."),
    ("Heading 2", "Termination"),
    ("Normal", "Either party may terminate with six months' notice to the end of a quarter. Insolvency, or three late "
     "deliveries in one year, permit termination at once."),
    ("Heading 2", "Law"),
    ("Normal", "Norwegian law applies; disputes go to the court in Trondheim after mediation has failed."),
]  # fmt: skip
WORKSHOP_GERMAN = [
    ("Heading 1", "Betriebsanweisung Werkstatt Bremen"),
    ("Normal", "Gilt für alle, die in Halle 2 arbeiten. Verantwortlich ist Jonas Becker."),
    ("Heading 2", "Lithium-Akkus"),
    ("Normal", "Akkus werden nur im Brandschutzschrank geladen und nie über Nacht. Ein aufgeblähter Akku kommt sofort in "
     "die Sandkiste vor dem Tor; danach ist die Feuerwehr unter 112 zu rufen."),
    ("Heading 2", "Kran"),
    ("Normal", "Den Hallenkran bedient nur, wer den Kranschein hat. Unter schwebender Last hält sich niemand auf. Die "
     "zulässige Last beträgt 500 Kilogramm."),
    ("Heading 2", "Desinfektion"),
    ("Normal", "Zurückgesandte Bojen werden vor dem Öffnen mit heißem Wasser von 60 Grad abgespritzt, damit keine fremden "
     "Muscheln in die Weser gelangen."),
]  # fmt: skip
STRATEGY_SLIDES = [
    ("Strategy 2027", ["Fewer products, better data", "Board meeting of 24 September 2026"],
     "Ingrid: begin with the story of the nurse in Nantes who swims in the Erdre."),
    ("Where we stand", ["1,940 buoys in 14 countries", "Recurring revenue: 44 percent", "Churn: 3.1 percent a year"],
     "The churn figure leaves out the two Danish municipalities that merged."),
    ("What we will do", ["Wiper or copper tape on every probe by June", "Open an office in Vigo", "Sell data, not devices"],
     "Do not promise a date for the subscription price; the finance committee decides in November."),
    ("What we stop", ["NV-190", "Projects in standing waste water", "Own trade fair stands"],
     "The trade fair money, 85,000 euros, goes to the open data portal."),
]  # fmt: skip
SAFETY_SLIDES = [
    ("Safety on the water", ["For everyone who leaves the quay", "Valid for two years"],
     "Let the group try on the life jackets before you go on."),
    ("Cold water", ["Below 10 degrees you have ten minutes of useful movement", "Wear the dry suit from October to May"],
     "The rule of thumb is 1-10-1: one minute to control breathing, ten of movement, one hour before fainting."),
    ("Lifting a buoy", ["A wet NV-2200 weighs 94 kg", "Two people and the davit, always", "Nobody between hull and buoy"],
     "Mention the crushed hand of 2021; the colleague agreed to it."),
]  # fmt: skip
STOCK_SHEETS: dict[str, list[list[object]]] = {
    "Stock 2026-09-30": [
        ["Part", "Description", "Quantity", "Unit price EUR", "Shelf"],
        ["NV-2200-B", "Battery pack 48 Ah", 37, 412.5, "C-04"],
        ["NV-2200-O12", "Seal ring, lid", 1280, 3.2, "A-11"],
        ["NV-310-L", "Light source 860 nm", 9, 118, "B-02"],
        ["NV-310-S", "Sun shade", 64, 14.9, "B-03"],
        ["NV-2200-W", "Winter anchor", 22, 187, "yard"],
    ],
    "To order": [
        ["Part", "Ordered on", "Quantity", "Supplier", "Expected"],
        ["NV-310-L", date(2026, 9, 21), 60, "Optique Rhône SARL", date(2026, 11, 6)],
        ["NV-2200-O2", date(2026, 9, 28), 500, "Hansa Dichtungen GmbH", date(2026, 10, 12)],
    ],
}
CALIBRATION_SHEETS: dict[str, list[list[object]]] = {
    "Calibrations": [
        ["Probe", "Date", "Low counts", "High counts", "Technician", "Passed"],
        ["310-1877", date(2026, 4, 14), 812, 21930, "Fatima Idrissi", True],
        ["310-1902", date(2026, 4, 14), 798, 22011, "Fatima Idrissi", True],
        ["310-1655", date(2026, 4, 15), 1204, 1598, "Karl Wiegand", False],
    ],
    "Remarks": [["310-1655: light source worn out after 31,200 hours; sent to Optique Rhône on 16 April."]],
}
REMINDER = """Dear colleagues,

our invoice INV-2026-0417 of 28 April over 38,710.70 euros was due on 28 May and has not been paid. If it was mislaid,
you find a copy attached. Should something be wrong with the delivery, please tell me before 20 July; otherwise our
general terms add interest of 9 percent a year from that day on.

With kind regards
Sofia Lindqvist, Accounts
"""
COMPLAINT = {
    "subject": "Complaint: buoy 22-0177 drifted ashore on Lake Mjøsa",
    "from_name": "Odd Kristiansen",
    "from_address": "odd.kristiansen@hamar-kommune.example",
    "to": "support@norrvik.example",
    "sent_at": "2026-06-23T07:45:00+00:00",
    "body": "Hello,\r\n\r\non Saturday we found buoy 22-0177 on the beach at Hamar. The swivel of the mooring had broken, "
    "although your technician inspected it only in May. A family's rowing boat was scratched; they ask for 3,200 kroner."
    "\r\n\r\nWho pays, and when can the buoy be put out again? The bathing season has started.\r\n\r\nOdd Kristiansen",
    "attachment_name": "place-of-finding.txt",
    "attachment": "Found at 60.7945 N, 11.0680 E, two metres above the water line. The serial plate is readable.",
}
RETURN_FORM = [
    "Return form RMA-2026-118",
    "Please fill in this form and put it on top of the device. Parcels without it wait in quarantine for 14 days.",
    "Device: probe NV-310, serial number 310-1655. Sender: Stadtwerke Kiel, Mrs Thea Jürgensen.",
    "Fault: readings stay at 3.7 NTU whatever the water looks like.",
    "I confirm that the device was cleaned with hot water and has not been in contact with radioactive or infectious "
    "material. Without this confirmation our workshop in Bremen may not open it.",
    "Costs: the check costs 95 euros and is credited when you order the repair.",
]
MUSEUM_LOAN = [
    ("Heading 1", "Loan of the buoy of 1974"),
    ("Normal", "The maritime museum in Trondheim asks for the first buoy of our founder, Aksel Norrvik, for its exhibition "
     "\"Clear water\" from 15 January to 30 August 2027."),
    ("Heading 2", "Condition"),
    ("Normal", "The hull of plywood and glass fibre is sound. The chart recorder, made by hand, must not be wound up. "
     "Light in the hall may not exceed 150 lux."),
    ("Heading 2", "Insurance"),
    ("Normal", "The museum insures the buoy for 40,000 euros from wall to wall. Carriage is done by the firm Nordkunst."),
]  # fmt: skip
FIELD_GUIDE = [
    ("Why water turns brown", "After heavy rain a river carries soil. Turbidity rises within hours and falls within days, "
     "and the first wave is the dirtiest.\n\nAn old rule of the boatmen says: if you cannot see your oar at an arm's depth, "
     "do not drink. It is about 30 NTU, as it happens."),
    ("Oxygen and the warm season", "Cold water holds more oxygen than warm water: fourteen milligrams a litre at freezing "
     "point, nine at twenty degrees.\n\nFish suffer below five. On August mornings, before the algae see the sun, ponds "
     "may fall to two; that is when the bream come up and gasp."),
    ("Reading the shore", "Look for stonefly larvae under flat stones. Where they live, the water has been clean for a "
     "year at least, and no probe can tell you that much about the past."),
]  # fmt: skip
