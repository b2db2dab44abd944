//! The disks as SQLite's default file system (<https://sqlite.org/vfs.html>): the one place with unsafe code. Each function takes
//! apart what SQLite hands in and leaves the rest to [`Handle`].

#![allow(unsafe_code, reason = "SQLite's interface to a file system is one of pointers")]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    mem::size_of,
    ptr, slice,
};

use rusqlite::ffi;

use super::{
    Code, Handle, NOW, delete, exists,
    locks::{FileLock, Region},
};

/// What SQLite keeps for an open file: it asks for this much room.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    handle: *mut Handle,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Makes the disks the file system of every database that this process opens from now on.
pub(super) fn register() {
    // SAFETY: nothing of SQLite was called yet, where this process opens databases on disks of this kind only. Where it was, this
    // does nothing.
    unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0) };
    let vfs = Box::new(ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: size_of::<OpenFile>() as c_int,
        mxPathname: 512,
        pNext: ptr::null_mut(),
        zName: c"dynos-sync-sim".as_ptr(),
        pAppData: ptr::null_mut(),
        xOpen: Some(open),
        xDelete: Some(delete_file),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: None,
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: Some(current_time),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    });
    // SAFETY: the structure lives until the process ends, and its functions hold to SQLite's contract.
    let code = unsafe { ffi::sqlite3_vfs_register(Box::leak(vfs), 1) };
    assert_eq!(code, ffi::SQLITE_OK, "BUG: SQLite takes a file system");
}

fn code(result: Result<(), Code>) -> c_int {
    result.map_or_else(|code| code, |()| ffi::SQLITE_OK)
}

/// SQLite's offsets and sizes are never negative.
fn size(n: i64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// # Safety
/// `file` was opened by [`open`] and not closed yet; SQLite uses a file from one thread at a time.
unsafe fn handle<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Handle {
    // SAFETY: `open` put a valid handle there, and only `close` takes it away.
    unsafe { &mut *(*file.cast::<OpenFile>()).handle }
}

/// # Safety
/// `name` is null or a C string that outlives the call.
unsafe fn text<'a>(name: *const c_char) -> Option<&'a str> {
    // SAFETY: as promised by the caller.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default())
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands in a path or null, and `szOsFile` bytes for the file.
    unsafe {
        (*file).pMethods = ptr::null();
        match Handle::open(text(name), flags & ffi::SQLITE_OPEN_CREATE != 0) {
            Err(code) => code,
            Ok(handle) => {
                let writes = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE;
                let given =
                    if handle.read_only { flags & !writes | ffi::SQLITE_OPEN_READONLY } else { flags };
                (*file.cast::<OpenFile>()).handle = Box::into_raw(Box::new(handle));
                (*file).pMethods = &raw const METHODS;
                if !out.is_null() {
                    *out = given;
                }
                ffi::SQLITE_OK
            }
        }
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the handle was made by `open` and is not used afterwards.
    unsafe {
        let mut handle = Box::from_raw((*file.cast::<OpenFile>()).handle);
        handle.close();
        (*file).pMethods = ptr::null();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: `into` has room for `amount` bytes.
    let (handle, into) =
        unsafe { (handle(file), slice::from_raw_parts_mut(into.cast::<u8>(), size(amount.into()))) };
    match handle.read(size(offset), into) {
        Err(code) => code,
        Ok(read) if read == into.len() => ffi::SQLITE_OK,
        Ok(read) => {
            into[read..].fill(0);
            ffi::SQLITE_IOERR_SHORT_READ
        }
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: `from` holds `amount` bytes.
    let (handle, from) =
        unsafe { (handle(file), slice::from_raw_parts(from.cast::<u8>(), size(amount.into()))) };
    code(handle.write(size(offset), from))
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, to: ffi::sqlite3_int64) -> c_int {
    // SAFETY: an open file.
    code(unsafe { handle(file) }.truncate(size(to)))
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: an open file.
    code(unsafe { handle(file) }.sync())
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: an open file.
    match unsafe { handle(file) }.size() {
        Err(code) => code,
        Ok(size) => {
            // SAFETY: `out` points at a number.
            unsafe { *out = i64::try_from(size).unwrap_or(i64::MAX) };
            ffi::SQLITE_OK
        }
    }
}

fn level(level: c_int) -> FileLock {
    match level {
        ffi::SQLITE_LOCK_SHARED => FileLock::Shared,
        ffi::SQLITE_LOCK_RESERVED => FileLock::Reserved,
        ffi::SQLITE_LOCK_PENDING => FileLock::Pending,
        ffi::SQLITE_LOCK_EXCLUSIVE => FileLock::Exclusive,
        _ => FileLock::None,
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, to: c_int) -> c_int {
    // SAFETY: an open file.
    code(unsafe { handle(file) }.lock(level(to)))
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, to: c_int) -> c_int {
    // SAFETY: an open file.
    code(unsafe { handle(file) }.unlock(level(to)))
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: an open file.
    match unsafe { handle(file) }.is_reserved() {
        Err(code) => code,
        Ok(reserved) => {
            // SAFETY: `out` points at a number.
            unsafe { *out = reserved.into() };
            ffi::SQLITE_OK
        }
    }
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    512
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    index: c_int,
    length: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: an open file.
    let region = unsafe { handle(file) }.region(size(index.into()), size(length.into()), extend != 0);
    match region {
        Err(code) => code,
        Ok(region) => {
            // SAFETY: `out` points at a pointer.
            unsafe { *out = region.cast() };
            ffi::SQLITE_OK
        }
    }
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    let how = if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        Region::Release
    } else if flags & ffi::SQLITE_SHM_SHARED != 0 {
        Region::Share
    } else {
        Region::Own
    };
    // SAFETY: an open file.
    code(unsafe { handle(file) }.lock_region(size(first.into()), size(count.into()), how))
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: an open file.
    unsafe { handle(file) }.unmap();
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete_file(_: *mut ffi::sqlite3_vfs, name: *const c_char, _: c_int) -> c_int {
    // SAFETY: SQLite hands in a path.
    code(unsafe { text(name) }.map_or(Err(ffi::SQLITE_IOERR), delete))
}

unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands in a path, and where to put the answer.
    unsafe { *out = text(name).is_some_and(exists).into() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite hands in a path, and room for one.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if name.len() > size(room.into()) {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len());
    }
    ffi::SQLITE_OK
}

/// Only SQLite's generator asks, once a process: nothing that a simulation sees depends on it.
unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, amount: c_int, out: *mut c_char) -> c_int {
    // SAFETY: there is room for `amount` bytes.
    let out = unsafe { slice::from_raw_parts_mut(out.cast::<u8>(), size(amount.into())) };
    out.iter_mut().zip(0_u8..=255).for_each(|(byte, n)| *byte = n.wrapping_mul(151));
    amount
}

/// Time is virtual: whoever waits has waited.
unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    micros
}

unsafe extern "C" fn last_error(_: *mut ffi::sqlite3_vfs, _: c_int, _: *mut c_char) -> c_int {
    0
}

/// In milliseconds since noon in Greenwich on the 24th of November, 4714 B.C.
unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, out: *mut ffi::sqlite3_int64) -> c_int {
    const UNIX_EPOCH: i64 = 210_866_760_000_000;
    // SAFETY: `out` points at a number.
    unsafe { *out = UNIX_EPOCH + NOW.get() };
    ffi::SQLITE_OK
}
