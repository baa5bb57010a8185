// Fills in where the telephone is, once its holder asks for it.  The page works without.
const form = document.getElementById("gps");
const says = form.querySelector("[role=status]");
const refused = { 1: "Bạn chưa cho phép dùng vị trí.", 2: "Điện thoại không biết đang ở đâu.", 3: "Tìm vị trí quá lâu." };
if (navigator.geolocation) form.hidden = false;
form.querySelector("button").addEventListener("click", () => {
  says.textContent = "Đang tìm vị trí…";
  navigator.geolocation.getCurrentPosition(({ coords }) => {
    form.lat.value = coords.latitude.toFixed(7);
    form.lon.value = coords.longitude.toFixed(7);
    form.m.value = Math.ceil(coords.accuracy);
    form.submit();
  }, error => {
    says.textContent = `${refused[error.code] ?? ""} Hãy chỉ nhà trên bản đồ.`;
  }, { enableHighAccuracy: true, timeout: 20000, maximumAge: 0 });
});
