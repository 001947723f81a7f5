//! The words that families and categories are named with, in the six languages of the feed.

/// As the header of `CAT.csv` orders them.
pub const LANGUAGES: [&str; 6] = ["da", "de", "en", "fr", "it", "nl"];

/// One word in the order of [`LANGUAGES`].
pub type Word = [&'static str; 6];

pub struct Colour {
    pub name: Word,
    /// As `SearchColor` has it.
    pub search: &'static str,
    /// Without a `#`, as it is written.
    pub hex: &'static str,
    /// Ends a variant's sku.
    pub code: &'static str,
}

pub const COLOURS: [Colour; 5] = [
    Colour { name: ["sort", "schwarz", "black", "noir", "nero", "zwart"], search: "Black", hex: "1B1B1D", code: "001" },
    Colour {
        name: ["marineblå", "marineblau", "navy", "bleu marine", "blu navy", "marineblauw"],
        search: "Blue",
        hex: "20304F",
        code: "410",
    },
    Colour { name: ["rød", "rot", "red", "rouge", "rosso", "rood"], search: "Red", hex: "C41230", code: "220" },
    Colour { name: ["grøn", "grün", "green", "vert", "verde", "groen"], search: "Green", hex: "0A7F45", code: "530" },
    Colour { name: ["hvid", "weiß", "white", "blanc", "bianco", "wit"], search: "White", hex: "FCFCFA", code: "900" },
];

pub const SIZES: [&str; 5] = ["S", "M", "L", "XL", "XXL"];

/// Lines of goods; each name has a letter that ASCII has not.
pub const LINES: [&str; 6] = ["Skägen™", "Fjordís", "Bærum", "Åre", "Łódź", "Nîmes™"];

/// Goods, and the root category that they belong to.
pub const THINGS: [(Word, usize); 12] = [
    (["Mulepose", "Einkaufsbeutel", "Shopper", "Cabas", "Sporta", "Boodschappentas"], 0),
    (["Rygsæk", "Rucksack", "Backpack", "Sac à dos", "Zaino", "Rugzak"], 0),
    (["Krus", "Becher", "Mug", "Tasse", "Tazza", "Mok"], 1),
    (["Vandflaske", "Trinkflasche", "Water bottle", "Gourde", "Borraccia", "Drinkfles"], 1),
    (["Kuglepen", "Kugelschreiber", "Ballpoint pen", "Stylo à bille", "Penna a sfera", "Balpen"], 2),
    (["Notesbog", "Notizbuch", "Notebook", "Carnet", "Taccuino", "Notitieboek"], 2),
    (["Paraply", "Regenschirm", "Umbrella", "Parapluie", "Ombrello", "Paraplu"], 3),
    (["Strømper", "Socken", "Socks", "Chaussettes", "Calzini", "Sokken"], 4),
    (["Nøglering", "Schlüsselanhänger", "Key ring", "Porte-clés", "Portachiavi", "Sleutelhanger"], 5),
    (["Højttaler", "Lautsprecher", "Speaker", "Enceinte", "Altoparlante", "Luidspreker"], 6),
    (["Håndklæde", "Handtuch", "Towel", "Serviette", "Asciugamano", "Handdoek"], 7),
    (["Nødhjælpskasse", "Verbandskasten", "First aid box", "Trousse de secours", "Pronto soccorso", "EHBO-doos"], 3),
];

pub const DESCRIPTION: Word = [
    "Let, slidstærk og venlig mod miljøet.<br />Tåler vask ved 30 °C.",
    "Leicht, robust und umweltschonend.<br />Waschbar bei 30 °C.",
    "Light, hard-wearing and easy on nature.<br />Washes at 30 °C.",
    "Léger, résistant et respectueux de la nature.<br />Lavable à 30 °C.",
    "Leggero, resistente e rispettoso della natura.<br />Lavabile a 30 °C.",
    "Licht, sterk en zuinig op de natuur.<br />Wasbaar op 30 °C.",
];

pub const MATERIAL: Word = ["Materiale", "Material", "Material", "Matière", "Materiale", "Materiaal"];
pub const MATERIAL_VALUE: Word = [
    "genbrugsbomuld",
    "Recyclingbaumwolle",
    "recycled cotton",
    "coton recyclé",
    "cotone riciclato",
    "gerecycled katoen",
];
pub const COMPLIANCE: Word = ["Overensstemmelse", "Konformität", "Conformity", "Normes", "Conformità", "Conformiteit"];
pub const PACKAGING: Word = ["Emballage", "Verpackung", "Packing", "Conditionnement", "Imballaggio", "Verpakking"];
pub const LOOSE: Word = ["løst", "lose", "loose", "sans emballage", "sfuso", "los"];
pub const COLOUR: Word = ["Farve", "Farbe", "Colour", "Couleur", "Colore", "Kleur"];
pub const SIZE: Word = ["Størrelse", "Größe", "Size", "Taille", "Taglia", "Maat"];
pub const FRONT: Word = ["forside", "Vorderseite", "front", "face avant", "fronte", "voorzijde"];
pub const PRINT: Word = ["Silketryk", "Siebdruck", "Screen print", "Sérigraphie", "Serigrafia", "Zeefdruk"];
pub const SETUP: Word = ["Opstart", "Einrichtung", "Set-up", "Frais fixes", "Impianto", "Instelkosten"];

/// The roots of the category tree, each with its code.
pub const ROOTS: [(&str, Word); 8] = [
    ("CARRYING", ["Ting at bære i", "Tragen & Transport", "Carrying", "Porter & transporter", "Portare", "Dragen"]),
    ("DRINKING", ["Drikke", "Trinken", "Drinking", "Boire", "Bere", "Drinken"]),
    ("WRITING", ["Skrive", "Schreiben & Büro", "Writing & desk", "Écrire", "Scrivere", "Schrijven"]),
    ("OUTSIDE", ["Ude i det fri", "Draußen", "Outside", "Dehors", "All'aperto", "Buiten"]),
    ("WEARING", ["Tøj", "Kleidung", "Wearing", "Vêtements", "Abbigliamento", "Kleding"]),
    ("KEEPSAKES", ["Småting", "Kleinigkeiten", "Keepsakes", "Petits cadeaux", "Ricordi", "Kleinigheden"]),
    ("POWERED", ["Elektrisk", "Elektrisches", "Powered", "Électrique", "Elettrico", "Elektrisch"]),
    ("AT_HOME", ["Hjemme", "Zu Hause", "At home", "À la maison", "A casa", "Thuis"]),
];

/// What a root is divided by.
pub const KINDS: [(&str, Word); 17] = [
    ("CLASSIC", ["Klassisk", "Klassisch", "Classic", "Classique", "Classico", "Klassiek"]),
    ("RECYCLED", ["Genbrug", "Recycelt", "Recycled", "Recyclé", "Riciclato", "Gerecycled"]),
    ("PREMIUM", ["Luksus", "Hochwertig", "Premium", "Haut de gamme", "Pregiato", "Luxe"]),
    ("CHILDREN", ["Børn", "Kinder", "Children", "Enfants", "Bambini", "Kinderen"]),
    ("TRAVEL", ["Rejse", "Reise", "Travel", "Voyage", "Viaggio", "Reizen"]),
    ("SPORT", ["Sport & fritid", "Sport & Freizeit", "Sport", "Sport & loisirs", "Sport", "Sport"]),
    ("WINTER", ["Vinter", "Winter", "Winter", "Hiver", "Inverno", "Winter"]),
    ("SUMMER", ["Sommer", "Sommer", "Summer", "Été", "Estate", "Zomer"]),
    ("WOOD", ["Træ", "Holz", "Wooden", "Bois", "Legno", "Hout"]),
    ("METAL", ["Metal", "Metall", "Metal", "Métal", "Metallo", "Metaal"]),
    ("GLASS", ["Glas", "Glas", "Glass", "Verre", "Vetro", "Glas"]),
    ("PAPER", ["Papir", "Papier", "Paper", "Papier", "Carta", "Papier"]),
    ("FOLDING", ["Foldbar", "Faltbar", "Folding", "Pliable", "Pieghevole", "Opvouwbaar"]),
    ("SETS", ["Sæt", "Sets", "Sets", "Coffrets", "Confezioni", "Sets"]),
    ("SPARE_PARTS", ["Dele", "Zubehör", "Spare parts", "Pièces", "Ricambi", "Onderdelen"]),
    ("NEW", ["Nyt", "Neu", "New", "Nouveautés", "Novità", "Nieuw"]),
    ("OTHER", ["Andet", "Sonstiges", "Other", "Autres", "Altro", "Overig"]),
];

/// What the first kinds are divided by once more.
pub const SIZES_OF_KIND: [(&str, Word); 2] = [
    ("SMALL", ["Lille", "Klein", "Small", "Petit", "Piccolo", "Klein"]),
    ("LARGE", ["Stor", "Groß", "Large", "Grand", "Grande", "Groot"]),
];
