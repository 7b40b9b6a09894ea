"""What the quickstart recording is made of: documents, questions and corrections, by hand.

scripts/make_quickstart.py gives them ids, times and an order. Change the words here, run the script,
commit both.

Harbour & Pine is an invented maker of bicycles and outdoor gear; its help desk is the main tenant.
House style: the answer is the fact and nothing else, between "Short answer:" and "Ride well."

Facts are split in two. CORRECTED questions rest on one set of documents, HELD_OUT questions on
another: a held-out answer can be right only if the form was learnt and the fact was read.
"""

TENANT = "harbour-pine"
STYLE_NAME = "short answer, then ride well"
STYLE_REGEX = r"^Short answer: [^\n]{1,60}\. Ride well\.$"


def in_house_style(fact):
    return f"Short answer: {fact}. Ride well."


# Documents: id -> (title, text). One or two short sentences, one concrete fact each.

CORRECTED_DOCUMENTS = {
    "returns/window": ("Returns", "Unused gear can be returned within 45 days of delivery. Refunds are paid within 5 working days."),
    "shipping/cost": ("Shipping costs", "Shipping is free for orders over 80 euros. For smaller orders it costs 6 euros."),
    "warranty/frames": ("Frame warranty", "Steel frames carry a warranty of 10 years. Carbon frames carry a warranty of 6 years."),
    "tyres/gravel-40": ("Gravel 40 tyre", "Ride the Gravel 40 tyre at 2.8 bar. Its maximum pressure is 4.5 bar."),
    "brakes/pads": ("Brake pads", "Our disc brakes use K12 pads. Replace the pads when they are thinner than 1 millimetre."),
    "ebike/current": ("Current e-bike", "The battery of the Current e-bike charges in 4 hours. One charge lasts 90 kilometres."),
    "care/chain": ("Chain care", "Oil the chain every 200 kilometres. In dry weather use Pine Wax."),
    "tents/fjord": ("Fjord tent", "The Fjord tent sleeps 3 people. It weighs 2.4 kilograms."),
    "stoves/ember": ("Ember stove", "The Ember stove boils a litre of water in 7 minutes. It burns gas from a C230 can."),
    "jackets/squall": ("Squall jacket", "Wash the Squall jacket at 30 degrees. It has 5 pockets."),
    "service/first": ("Bike service", "The first service is free and due after 300 kilometres. Every later service costs 75 euros."),
    "shop/pickup": ("Pickup in the shop", "Pickup orders wait in the shop for 12 days. Bring the order number."),
    "gifts/cards": ("Gift cards", "Gift cards are valid for 3 years. The smallest gift card is worth 20 euros."),
    "kids/fox": ("Fox children's bike", "The Fox bike fits children from 110 centimetres. It has 16 inch wheels."),
    "club/points": ("Trail Club", "Members of the Trail Club earn 2 points for every euro."),
    "bags/anchor": ("Anchor pannier", "The Anchor pannier holds 22 litres."),
    "lights/beacon": ("Beacon light", "The Beacon front light shines with 60 lux."),
    "pumps/gale": ("Gale pump", "The Gale floor pump reaches 11 bar."),
}

HELD_OUT_DOCUMENTS = {
    "exchange/shoes": ("Shoe exchange", "Shoes can be exchanged for another size within 21 days. The exchange is free."),
    "bikes/heron": ("Heron touring bike", "The Heron touring bike weighs 13.6 kilograms. It comes in forest green."),
    "bags/drift": ("Drift sleeping bag", "The Drift sleeping bag is warm down to minus 7 degrees. It packs down to 9 litres."),
    "repair/puncture": ("Puncture repair", "Repairing a puncture takes 25 minutes. It costs 14 euros."),
    "locks/bollard": ("Bollard lock", "The Bollard lock has security level 9. It comes with 3 keys."),
    "helmets/gull": ("Gull helmet", "The Gull helmet weighs 280 grams."),
    "orders/cancel": ("Cancelling orders", "Orders can be cancelled until 6 pm on the same day."),
    "payment/instalments": ("Instalments", "Bikes can be paid in 12 monthly instalments."),
    "rental/trailer": ("Trailer rental", "Renting a cargo trailer costs 18 euros a day."),
    "saddles/dune": ("Dune saddle", "The Dune saddle is 145 millimetres wide."),
    "bottles/cove": ("Cove bottle", "The Cove bottle holds 750 millilitres."),
    "boots/ridge": ("Ridge boots", "Wax the Ridge boots every 6 weeks."),
    "apps/wayfinder": ("Wayfinder app", "The Wayfinder app stores offline maps of 12 countries."),
    "forks/otter": ("Otter fork", "The Otter suspension fork has 120 millimetres of travel."),
    "workshop/booking": ("Workshop booking", "Book a place in the workshop 8 days ahead."),
}

# These change or go while the recording runs.
SHOP_HOURS = "shop/hours"
SHOP_HOURS_TITLE = "Opening hours"
SHOP_HOURS_BEFORE = "The shop opens at 10 am on weekdays."
SHOP_HOURS_AFTER = "The shop opens at 8 am on weekdays."
SPRING_SALE = "sale/spring"
STAFF_PHONE = "staff/phone"
PASSING_DOCUMENTS = {
    SHOP_HOURS: (SHOP_HOURS_TITLE, SHOP_HOURS_BEFORE),
    SPRING_SALE: ("Spring sale", "The spring sale takes 15 percent off every rain cape."),
    STAFF_PHONE: ("Staff phone list", "Mechanic Ingrid Dahl answers on extension 417."),
}

# The embedder is multilingual, the quickstart's language model is not: these show retrieval.
CHINESE_DOCUMENTS = {
    "zh/shop-shanghai": ("上海门店", "上海门店每天上午十点到晚上八点营业。"),
    "zh/shop-beijing": ("北京门店", "北京门店在朝阳区，周一休息。"),
    "zh/delivery": ("配送时间", "中国大陆的订单三天内送达。"),
    "zh/invoice": ("电子发票", "电子发票在付款后一天内发出。"),
    "zh/warranty-tents": ("帐篷保修", "帐篷的保修期是两年。"),
    "zh/contact": ("中文客服", "中文客服周末不上班。"),
}

# Questions that people ask and then correct: (document_id, question, fact).
# The correction is in_house_style(fact). The fact, word for word in the document or nearly so.
CORRECTED = [
    ("returns/window", "How long do I have to return unused gear?", "45 days"),
    ("tents/fjord", "How many people sleep in the Fjord tent?", "3 people"),
    ("warranty/frames", "How long is the warranty on a steel frame?", "10 years"),
    ("ebike/current", "How long does the Current e-bike charge?", "4 hours"),
    ("shipping/cost", "When is shipping free?", "Over 80 euros"),
    ("brakes/pads", "Which pads do the disc brakes use?", "K12 pads"),
    ("bags/anchor", "How much fits into the Anchor pannier?", "22 litres"),
    ("care/chain", "How often should I oil my chain?", "Every 200 kilometres"),
    ("gifts/cards", "How long is a gift card valid?", "3 years"),
    ("tyres/gravel-40", "At what pressure do I ride the Gravel 40?", "2.8 bar"),
    ("stoves/ember", "How fast does the Ember stove boil water?", "7 minutes"),
    ("kids/fox", "From what height does the Fox bike fit a child?", "110 centimetres"),
    ("jackets/squall", "How hot may I wash the Squall jacket?", "30 degrees"),
    ("service/first", "When is the first service due?", "After 300 kilometres"),
    ("lights/beacon", "How bright is the Beacon light?", "60 lux"),
    ("returns/window", "How fast is my refund paid?", "5 working days"),
    ("tents/fjord", "What does the Fjord tent weigh?", "2.4 kilograms"),
    ("shop/pickup", "How long does the shop keep a pickup order?", "12 days"),
    ("warranty/frames", "How many years of warranty has a carbon frame?", "6 years"),
    ("pumps/gale", "How much pressure can the Gale pump reach?", "11 bar"),
    ("ebike/current", "How far does one charge of the Current go?", "90 kilometres"),
    ("shipping/cost", "What does shipping cost for a small order?", "6 euros"),
    ("club/points", "How many points does a club member earn per euro?", "2 points"),
    ("care/chain", "What should I put on the chain in dry weather?", "Pine Wax"),
    ("brakes/pads", "How thin may the brake pads get?", "1 millimetre"),
    ("kids/fox", "How big are the wheels of the Fox bike?", "16 inch"),
    ("gifts/cards", "What is the smallest gift card?", "20 euros"),
    ("jackets/squall", "How many pockets has the Squall jacket?", "5 pockets"),
    ("stoves/ember", "Which gas can fits the Ember stove?", "C230 can"),
    ("tyres/gravel-40", "How hard may I pump the Gravel 40 at most?", "4.5 bar"),
    ("service/first", "What does a later service cost?", "75 euros"),
    ("shop/pickup", "What must I bring to pick up my order?", "The order number"),
]

# Asked of every adapter version that is measured; never corrected, never rated.
# (document_id, question, fact, showcase: asked in the recording before and after the feedback)
HELD_OUT = [
    ("bikes/heron", "How heavy is the Heron touring bike?", "13.6 kilograms", True),
    ("repair/puncture", "What does a puncture repair cost?", "14 euros", True),
    ("bags/drift", "Down to what temperature is the Drift sleeping bag warm?", "minus 7 degrees", False),
    ("exchange/shoes", "How long can I exchange shoes for another size?", "21 days", True),
    ("rental/trailer", "What is the rent for a cargo trailer?", "18 euros", True),
    ("locks/bollard", "How many keys come with the Bollard lock?", "3 keys", True),
    ("bikes/heron", "In which colour can I get the Heron?", "forest green", False),
    ("repair/puncture", "How long does it take to mend a puncture?", "25 minutes", False),
    ("bags/drift", "How small does the Drift pack?", "9 litres", False),
    ("exchange/shoes", "What does exchanging my shoes cost?", "free", False),
    ("locks/bollard", "What security level has the Bollard?", "9", False),
    ("helmets/gull", "What is the weight of the Gull helmet?", "280 grams", False),
    ("orders/cancel", "Until when can I cancel today's order?", "6 pm", False),
    ("payment/instalments", "In how many instalments can I pay a bike?", "12", False),
    ("saddles/dune", "How wide is the Dune saddle?", "145 millimetres", False),
    ("bottles/cove", "How much does the Cove bottle hold?", "750 millilitres", True),
    ("boots/ridge", "How often do I wax my Ridge boots?", "Every 6 weeks", False),
    ("apps/wayfinder", "How many countries can I store in the Wayfinder app?", "12 countries", False),
    ("forks/otter", "How much travel has the Otter fork?", "120 millimetres", False),
    ("workshop/booking", "How early must I book the workshop?", "8 days", False),
]

# Questions of the demonstrations: cache, updates, deletes, languages.
ASK_HOURS = "When does the shop open on weekdays?"
ASK_HOURS_SLOPPILY = "when does the shop open on weekdays"
ASK_SALE = "How much is off in the spring sale?"
ASK_STAFF = "Which extension has mechanic Ingrid Dahl?"
ASK_CHINESE = "帐篷保修多久？"
ASK_ACROSS = "When is the Shanghai shop open?"

WORKSHOP_SYSTEM = "You are a bicycle mechanic of Harbour & Pine. Answer in one plain sentence."
PRANKSTER = "guest-17"
PRANK = "No idea, ask somebody else, lol."
INLINE_QUERY = "Do you sell spare spokes?"
INLINE_COMPLETION = in_house_style("In packs of 8")
USERS = ["ana", "ben", "chloe", "dmitri", "emeka", "freja"]

# The second tenant asks the first tenant's first question; its documents, examples and adapter are
# its own. Only it gives examples, so that the first tenant's answers owe nothing to few-shots.
NEIGHBOUR = "juniper-books"
NEIGHBOUR_DOCUMENT = ("returns/window", "Returns", "Unread books can be returned within 14 days.")
NEIGHBOUR_EXAMPLES = [
    ("How long do you hold a book for me?", "We hold it for 7 days."),
    ("What does it cost to post a book?", "Posting it costs 3 euros."),
]
NEIGHBOUR_QUESTION = CORRECTED[0][1]
