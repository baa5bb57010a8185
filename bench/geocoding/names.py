"""What hamlets of Bắc Kạn are called, and what its communes were called before.

Heads and tails are those of Tày, Nùng, Dao and Mông place names (nà field, bản
village, pác mouth of a stream, khuổi stream, cốc foot of a tree, khau hill,
lũng valley, phiêng flat, tổng fields, kéo pass, slam three …), put together at random: no hamlet here is
meant to be a real one.
"""

# A head with how often it is met.
HEADS = {
    "Nà": 34, "Bản": 18, "Khuổi": 14, "Pác": 8, "Cốc": 7, "Lũng": 5, "Lủng": 3, "Phiêng": 5, "Khau": 5, "Kéo": 3,
    "Tổng": 3, "Thôm": 3, "Slam": 2, "Nặm": 2, "Phja": 2, "Vằng": 2, "Đon": 2, "Pù": 1, "Tát": 1, "Cáy": 1,
    "Mạ": 1, "Sam": 1,
}  # fmt: skip

# The first are met far more often than the last, so that names repeat from commune to commune as they do in life.
TAILS = (
    "Lẹng", "Chang", "Cà", "Slưn", "Lùng", "Khoang", "Bó", "Luông", "Mòn", "Nghè", "Quang", "Đán", "Pái", "Mới", "Ít",
    "Phặc", "Chúa", "Giáo", "Diếu", "Tảng", "Cháng", "Pục", "Thi", "Rào", "Hin", "Coóc", "Tèng", "Lạn", "Nạc", "Mu",
    "Đứa", "Lồm", "Phấy", "Sáo", "Chả", "Tráng", "Mò", "Nghiên", "Mình", "Pán", "Dài", "Lào", "Vài", "Khao", "Lìn",
    "Nìm", "Ngần", "Tàn", "Mặn", "Vàng", "Lầy", "Kỷ", "Đúc", "Vẻn", "Chàm", "Duồng", "Chuông", "Poong", "Hoi", "Lịn",
    "Lốc", "Luộc", "Mỏ", "Tăng", "Phjải", "Cút", "Cuổn", "Trang", "Nẻn", "Chom", "Đấy", "Ngò", "Khún", "Nòm", "Lường",
    "Sả", "Mấu", "Hiu", "Thủm", "Tậu", "Cọ", "Váng", "Bon", "Cang", "Bẻ", "Mùm", "Phung", "Giàng", "Dầu", "Giả", "Dì",
    "Ràng", "Rọ", "Sổm", "Xỏm", "Xả", "Ỏ", "Đén", "Lì", "Vè", "Piao", "Choọng", "Muồng", "Pjạc", "Sliến", "Slả", "Đeng",
    "Cọt", "Thẳm", "Liềng", "Hán", "Bây", "Tu", "Hai", "Toàn", "Mằn", "Kẹn", "Cuôn", "Ngòa", "Thoi", "Huống", "Yến",
    "Ảng", "Ao", "Éng", "Trù", "Trò", "Trai", "Chiêm", "Riềng", "Rẫy", "Dú", "Giuộc",
)  # fmt: skip

# Upper, lower, outer, small, big: what tells two hamlets of one name apart.
ENDS = ("Nưa", "Tẩu", "Noóc", "Nọi", "Cuổi")

# Names that settlers and cooperatives gave; some are communes' names too, as in life.
SETTLERS = (
    "Tân Thành", "Tân Lập", "Đoàn Kết", "Quyết Tiến", "Hợp Thành", "Đồng Tâm", "Tân Hợp", "Nam Đội Thân", "Phố Mới",
    "Chợ Chùa", "Còi Mò", "Đồng Luông", "Tân Khang", "Quyết Thắng", "Bình Minh", "Trung Tâm", "Công Quản", "Văn Lạc",
    "Tân Sơn", "Hữu Nghị",
)  # fmt: skip

# The communes that Resolution 855/NQ-UBTVQH14 put together on 2020-02-01, by the code of the commune they became.
BEFORE_2020: dict[str, tuple[tuple[str, str], ...]] = {
    "01912": (("Xã", "Cao Trĩ"), ("Xã", "Thượng Giáo")),
    "01960": (("Xã", "Hương Nê"), ("Xã", "Lãng Ngâm")),
    "01969": (("Thị trấn", "Phủ Thông"), ("Xã", "Phương Linh")),
    "01993": (("Xã", "Tú Trĩ"), ("Xã", "Tân Tiến")),
    "02005": (("Xã", "Quân Bình"), ("Xã", "Hà Vị")),
    "02059": (("Xã", "Rã Bản"), ("Xã", "Đông Viên")),
    "02083": (("Xã", "Phong Huân"), ("Xã", "Yên Nhuận")),
    "02086": (("Thị trấn", "Chợ Mới"), ("Xã", "Yên Đĩnh")),
    "02113": (("Xã", "Nông Thịnh"), ("Xã", "Thanh Bình")),
    "02137": (("Xã", "Vũ Loan"), ("Xã", "Văn Học")),
    "02140": (("Xã", "Lạng San"), ("Xã", "Ân Tình")),
    "02155": (("Thị trấn", "Yến Lạc"), ("Xã", "Lương Hạ")),
    "02161": (("Xã", "Lương Thành"), ("Xã", "Lam Sơn")),
    "02179": (("Xã", "Hữu Thác"), ("Xã", "Hảo Nghĩa")),
}

# Other kinds that communes of today's elders had, for those who still write them.
FORMER_KINDS = {"01954": "Xã", "01846": "Xã", "01855": "Xã"}

# What is right written one way and the other, word by word of a name.
SPELLINGS = {
    "Hòa": "Hoà", "Hóa": "Hoá", "Thuỷ": "Thủy", "Sỹ": "Sĩ", "Mỹ": "Mĩ", "Kỳ": "Kì", "Hỷ": "Hỉ", "Rì": "Rỳ",
    "Kạn": "Cạn", "Pác": "Pắc", "Trĩ": "Trỹ", "Ngòa": "Ngoà", "Kỷ": "Kỉ", "Lì": "Lỳ",
}  # fmt: skip
