// SPDX-License-Identifier: GPL-2.0
//! relay-vmm.c in Rust: std and three functions of the C library, no crates. Says and does the same.
//!
//!     rustc --edition 2021 -O -C target-feature=+crt-static relay-vmm.rs

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem::size_of;
use std::os::raw::{c_int, c_ulong, c_void};
use std::os::unix::io::{AsRawFd, FromRawFd};
use std::ptr::{addr_of, addr_of_mut, null_mut};
use std::sync::atomic::{AtomicU32, AtomicU8, Ordering};
use std::sync::Mutex;

extern "C" {
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn mmap(at: *mut c_void, size: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    fn eventfd(value: u32, flags: c_int) -> c_int;
}

// linux/kvm.h: what is needed of it.
const IN: c_ulong = 2; // the kernel writes
const OUT: c_ulong = 1; // the kernel reads

const fn kvmio(dir: c_ulong, nr: c_ulong, size: usize) -> c_ulong {
    dir << 30 | (size as c_ulong) << 16 | 0xae << 8 | nr
}

const KVM_CREATE_VM: c_ulong = kvmio(0, 0x01, 0);
const KVM_CHECK_EXTENSION: c_ulong = kvmio(0, 0x03, 0);
const KVM_GET_VCPU_MMAP_SIZE: c_ulong = kvmio(0, 0x04, 0);
const KVM_GET_SUPPORTED_CPUID: c_ulong = kvmio(IN | OUT, 0x05, 8);
const KVM_CREATE_VCPU: c_ulong = kvmio(0, 0x41, 0);
const KVM_SET_USER_MEMORY_REGION: c_ulong = kvmio(OUT, 0x46, size_of::<MemoryRegion>());
const KVM_SET_TSS_ADDR: c_ulong = kvmio(0, 0x47, 0);
const KVM_CREATE_IRQCHIP: c_ulong = kvmio(0, 0x60, 0);
const KVM_SET_GSI_ROUTING: c_ulong = kvmio(OUT, 0x6a, 8);
const KVM_IRQFD: c_ulong = kvmio(OUT, 0x76, size_of::<Irqfd>());
const KVM_RUN: c_ulong = kvmio(0, 0x80, 0);
const KVM_GET_REGS: c_ulong = kvmio(IN, 0x81, size_of::<Regs>());
const KVM_SET_REGS: c_ulong = kvmio(OUT, 0x82, size_of::<Regs>());
const KVM_GET_SREGS: c_ulong = kvmio(IN, 0x83, size_of::<Sregs>());
const KVM_SET_SREGS: c_ulong = kvmio(OUT, 0x84, size_of::<Sregs>());
const KVM_SET_CPUID2: c_ulong = kvmio(OUT, 0x90, 8);
const KVM_ENABLE_CAP: c_ulong = kvmio(OUT, 0xa3, size_of::<EnableCap>());
const KVM_GET_SUPPORTED_HV_CPUID: c_ulong = kvmio(IN | OUT, 0xc1, 8);

const KVM_CAP_HYPERV_SYNIC2: u32 = 148;
const KVM_CAP_HYPERV_ENLIGHTENED_VMCS: u32 = 163;
const KVM_CAP_NESTED_HYPERV_HCALL_RELAY: u32 = 252;
const KVM_NESTED_HYPERV_RELAY_POST_MESSAGE: u64 = 1 << 0;
const KVM_NESTED_HYPERV_RELAY_SIGNAL_EVENT: u64 = 1 << 1;
const KVM_NESTED_HYPERV_RELAY_ONE_L2: u64 = 1 << 9;
const KVM_EXIT_IO: u32 = 2;
const KVM_EXIT_IO_OUT: u8 = 1;
const KVM_EXIT_HYPERV: u32 = 27;
const KVM_EXIT_HYPERV_SYNIC: u32 = 1;
const KVM_EXIT_HYPERV_HCALL: u32 = 2;
const KVM_EXIT_HYPERV_HCALL_FROM_L2: u32 = 1;
const KVM_IRQ_ROUTING_HV_SINT: u32 = 4;

#[repr(C)]
struct EnableCap {
    cap: u32,
    flags: u32,
    args: [u64; 4],
    pad: [u64; 8],
}

#[repr(C)]
struct MemoryRegion {
    slot: u32,
    flags: u32,
    guest_phys_addr: u64,
    memory_size: u64,
    userspace_addr: u64,
}

#[repr(C)]
struct Irqfd {
    fd: u32,
    gsi: u32,
    flags: u32,
    resamplefd: u32,
    pad: [u8; 16],
}

#[repr(C)]
struct GsiRouting {
    nr: u32,
    flags: u32,
    gsi: u32,
    kind: u32,
    entry_flags: u32,
    pad: u32,
    vcpu: u32,
    sint: u32,
    rest: [u32; 6],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CpuidEntry {
    function: u32,
    index: u32,
    flags: u32,
    out: [u32; 4],
    pad: [u32; 3],
}

#[repr(C)]
struct Cpuid {
    nent: u32,
    pad: u32,
    entries: [CpuidEntry; CPUID_ENTRIES],
}

#[repr(C)]
#[derive(Default)]
struct Regs {
    rax: u64,
    rbx: u64,
    others: [u64; 14],
    rip: u64,
    rflags: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Segment {
    base: u64,
    limit: u32,
    selector: u16,
    kind: u8,
    present: u8,
    dpl: u8,
    db: u8,
    s: u8,
    l: u8,
    g: u8,
    avl: u8,
    unusable: u8,
    pad: u8,
}

#[repr(C)]
#[derive(Default)]
struct Sregs {
    cs: Segment,
    data: [Segment; 5],
    tr: Segment,
    ldt: Segment,
    tables: [u64; 4],
    cr0: u64,
    others: [u64; 10],
}

/// The start of struct kvm_run, with the two exits that are of interest.
#[repr(C)]
struct Run {
    request_interrupt_window: u8,
    immediate_exit: u8,
    pad1: [u8; 6],
    exit_reason: u32,
    pad2: u32,
    cr8: u64,
    apic_base: u64,
    exit: Exit,
}

#[repr(C)]
union Exit {
    io: Io,
    synic: Synic,
    hcall: Hcall,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Io {
    direction: u8,
    size: u8,
    port: u16,
    count: u32,
    data_offset: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Synic {
    kind: u32,
    pad: u32,
    msr: u32,
    pad2: u32,
    control: u64,
    evt_page: u64,
    msg_page: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Hcall {
    kind: u32,
    pad: u32,
    input: u64,
    result: u64,
    params: [u64; 2],
    flags: u32,
    pad3: u32,
    l2_vm_id: u64,
}

// From the Hyper-V Top Level Functional Specification (TLFS).
const HVCALL_POST_MESSAGE: u64 = 0x5c;
const HVCALL_SIGNAL_EVENT: u64 = 0x5d;
const HV_HYPERCALL_CODE_MASK: u64 = 0xffff;
const HV_HYPERCALL_FAST: u64 = 1 << 16;
const HV_SIGNAL_EVENT_RESERVED: u64 = 0xffff0000ff000000;
const HV_STATUS_SUCCESS: u64 = 0x0;
const HV_STATUS_INVALID_HYPERCALL_CODE: u64 = 0x2;
const HV_STATUS_INVALID_HYPERCALL_INPUT: u64 = 0x3;
const HV_STATUS_INVALID_ALIGNMENT: u64 = 0x4;
const HV_STATUS_INVALID_PARAMETER: u64 = 0x5;
const HV_STATUS_ACCESS_DENIED: u64 = 0x6;
const HV_STATUS_INVALID_CONNECTION_ID: u64 = 0x12;
const HV_STATUS_INSUFFICIENT_BUFFERS: u64 = 0x13;
const HV_PAGE_SIZE: u64 = 4096;
const HV_PAGE_MASK: u64 = !(HV_PAGE_SIZE - 1);
const HV_SYNIC_ENABLED: u64 = 1;
const HV_MESSAGE_PENDING: u8 = 1;

/// The input of HvPostMessage.
#[repr(C)]
#[derive(Clone, Copy)]
struct PostMessage {
    connection_id: u32,
    reserved: u32,
    message_type: u32,
    payload_size: u32,
    payload: [u32; 60],
}

impl PostMessage {
    /// Is it of this type within vmbus, and as long as that takes?
    fn is_message(&self, kind: u32, size: u32) -> bool {
        self.payload_size >= size && self.payload[0] == kind
    }

    fn is_contact(&self) -> bool {
        self.is_message(INITIATE_CONTACT, 12)
    }

    fn is_unload(&self) -> bool {
        self.is_message(UNLOAD, 8)
    }
}

/// A slot of the message page, one per SINT.
#[repr(C)]
struct Message {
    kind: AtomicU32,
    payload_size: u8,
    flags: AtomicU8,
    reserved: u16,
    sender: u64,
    payload: [u32; 60],
}

// This VMM's own choices, and those of relay-vmm.c.
const RAM_SIZE: u64 = 64 << 20;
const MODULE_ADDRESS: u64 = 0x2000000;
const TSS_ADDRESS: c_ulong = 0xfffbd000;
const SINT_GSI: u32 = 16;
const CPUID_ENTRIES: usize = 256;
const MAX_ARGUMENTS: usize = 9;
const PORT_CONSOLE: u16 = 0xe9;
const PORT_EXIT: u16 = 0x501;

const VMBUS_CONNECTION: u32 = 1;
const VMBUS_MESSAGE: u32 = 1;
const VMBUS_SINT: usize = 2;
const INITIATE_CONTACT: u32 = 14;
const VERSION_RESPONSE: u32 = 15;
const UNLOAD: u32 = 16;
const UNLOAD_RESPONSE: u32 = 17;

const RELAYED: u64 = KVM_NESTED_HYPERV_RELAY_POST_MESSAGE | KVM_NESTED_HYPERV_RELAY_SIGNAL_EVENT;

#[derive(Clone, Copy, PartialEq)]
enum Owner {
    Nobody,
    L1,
    L2(u64),
}

struct Vmm {
    vm: File,
    vcpu: File,
    sint: File,
    run: *mut Run,
    ram: *mut u8,
    /// The host has the relay, and it is to be used.
    relay: bool,
    owner: Mutex<Owner>,
    synic_control: u64,
    message_page: u64,
}

/// # Safety
/// What `arg` is has to suit `request`.
unsafe fn control(file: &File, request: c_ulong, arg: c_ulong) -> io::Result<c_int> {
    match ioctl(file.as_raw_fd(), request, arg) {
        value if value < 0 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

fn address<T>(value: &T) -> c_ulong {
    value as *const T as c_ulong
}

fn enable_cap(file: &File, cap: u32, args: [u64; 4]) -> io::Result<c_int> {
    let cap = EnableCap { cap, flags: 0, args, pad: [0; 8] };
    unsafe { control(file, KVM_ENABLE_CAP, address(&cap)) }
}

impl Vmm {
    /// Without the relay, each call is L1's, and there is nothing to choose.
    fn relay_set(&self, mask: u64, l2_vm_id: u64) -> bool {
        !self.relay || enable_cap(&self.vm, KVM_CAP_NESTED_HYPERV_HCALL_RELAY, [mask, l2_vm_id, 0, 0]).is_ok()
    }

    /// For a new VM. True if vmbus works for a nested root.
    fn relay_enable(&mut self) -> bool {
        let wanted = RELAYED | KVM_NESTED_HYPERV_RELAY_ONE_L2;
        let known = unsafe {
            control(&self.vm, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_HYPERV_HCALL_RELAY.into())
        };

        self.relay = known.map_or(false, |known| known as u64 & wanted == wanted);
        self.relay && self.relay_set(RELAYED, 0)
    }

    /// Of nobody, vmbus is free for L1 and for any L2 of its.
    fn vmbus_set_owner(&self, owner: &mut Owner, new: Owner) -> bool {
        let set = match new {
            Owner::Nobody => self.relay_set(RELAYED, 0),
            // As long as L1 has it, its guests get none.
            Owner::L1 => self.relay_set(0, 0),
            Owner::L2(id) => self.relay_set(RELAYED | KVM_NESTED_HYPERV_RELAY_ONE_L2, id),
        };
        if set {
            *owner = new;
        }
        set
    }

    /// The vmbus is of whoever has connected: of L1 until it unloads vmbus, as firmware does, of an L2
    /// until the machine is reset, lest another one come in between. Calls that were kept before the
    /// mask changed may still arrive.
    fn post_to_vmbus(&self, owner: &mut Owner, caller: Owner, message: &PostMessage) -> u64 {
        let before = *owner;
        let after = if before == Owner::Nobody && message.is_contact() {
            caller
        } else if before != caller {
            return HV_STATUS_ACCESS_DENIED;
        } else if caller == Owner::L1 && message.is_unload() {
            Owner::Nobody
        } else {
            before
        };

        // Before L1 gets to see the answer, as it may start an L2 then.
        if after != before && !self.vmbus_set_owner(owner, after) {
            return HV_STATUS_INSUFFICIENT_BUFFERS;
        }
        let status = self.vmbus_post(message);
        if after != before && status != HV_STATUS_SUCCESS {
            self.vmbus_set_owner(owner, before);
        }
        status
    }

    /// Guest memory; None if not all of it is RAM of the guest.
    fn guest_memory<T>(&self, gpa: u64) -> Option<*mut T> {
        let end = gpa.checked_add(size_of::<T>() as u64)?;

        (end <= RAM_SIZE).then(|| unsafe { self.ram.add(gpa as usize) as *mut T })
    }

    /// Put a message into its slot, and raise the SINT. False if the last one is still there: the
    /// guest writes to EOM when it has taken that.
    fn synic_send(&self, sint: usize, kind: u32, payload: &[u32]) -> bool {
        if self.synic_control & self.message_page & HV_SYNIC_ENABLED == 0 {
            return false;
        }
        let page = match self.guest_memory::<[Message; 16]>(self.message_page & HV_PAGE_MASK) {
            Some(page) => page as *mut Message,
            None => return false,
        };
        // The guest may access it at any time: no references but to atomics.
        unsafe {
            let slot = page.add(sint);
            let kind_there = &*addr_of!((*slot).kind);

            if kind_there.load(Ordering::Acquire) != 0 {
                (*addr_of!((*slot).flags)).fetch_or(HV_MESSAGE_PENDING, Ordering::SeqCst);
                if kind_there.load(Ordering::SeqCst) != 0 {
                    return false;
                }
            }
            // The type comes last: with it, the message is there.
            addr_of_mut!((*slot).payload_size).write_volatile(payload.len() as u8 * 4);
            (*addr_of!((*slot).flags)).store(0, Ordering::Relaxed);
            addr_of_mut!((*slot).sender).write_volatile(0);
            for (i, word) in payload.iter().enumerate() {
                (addr_of_mut!((*slot).payload) as *mut u32).add(i).write_volatile(*word);
            }
            kind_there.store(kind, Ordering::Release);
        }
        (&self.sint).write_all(&1u64.to_ne_bytes()).is_ok()
    }

    /// In the place of vmbus.
    fn vmbus_post(&self, post: &PostMessage) -> u64 {
        print!("VMM: type {}, {} bytes", post.message_type, post.payload_size);
        let answer: &[u32] = if post.is_contact() {
            println!(": InitiateContact, version {}.{}", post.payload[2] >> 16, post.payload[2] & 0xffff);
            &[VERSION_RESPONSE, 0, 1, 0]
        } else if post.is_unload() {
            println!(": Unload");
            &[UNLOAD_RESPONSE, 0]
        } else {
            println!();
            return HV_STATUS_SUCCESS;
        };
        if self.synic_send(VMBUS_SINT, VMBUS_MESSAGE, answer) {
            HV_STATUS_SUCCESS
        } else {
            HV_STATUS_INSUFFICIENT_BUFFERS
        }
    }

    fn vmbus_signal(&self, connection_id: u32, flag: u16) -> u64 {
        println!("VMM: connection {}, flag {}", connection_id, flag);
        HV_STATUS_INVALID_CONNECTION_ID
    }

    fn post_message(&self, owner: &mut Owner, caller: Owner, input: u64, gpa: u64) -> u64 {
        // The parameter of a fast call is no GPA; no message fits there.
        if input & HV_HYPERCALL_FAST != 0 {
            return HV_STATUS_INVALID_HYPERCALL_INPUT;
        }
        // KVM has checked that for L2, but not for L1.
        if gpa % 8 != 0 || gpa % HV_PAGE_SIZE + size_of::<PostMessage>() as u64 > HV_PAGE_SIZE {
            return HV_STATUS_INVALID_ALIGNMENT;
        }
        // Once: other vCPUs may be changing it.
        let post = match self.guest_memory::<PostMessage>(gpa) {
            Some(shared) => unsafe { shared.read_volatile() },
            None => return HV_STATUS_INVALID_ALIGNMENT,
        };
        if post.payload_size > 240 || post.message_type == 0 || post.message_type >> 31 != 0 {
            return HV_STATUS_INVALID_PARAMETER;
        }
        if post.connection_id != VMBUS_CONNECTION {
            return HV_STATUS_INVALID_CONNECTION_ID;
        }
        self.post_to_vmbus(owner, caller, &post)
    }

    fn answer_hypercall(&self, call: &Hcall) -> u64 {
        let param = call.params[0];
        let mut owner = self.owner.lock().unwrap();
        // A kernel without the relay doesn't set flags and ID.
        let caller = if self.relay && call.flags & KVM_EXIT_HYPERV_HCALL_FROM_L2 != 0 {
            Owner::L2(call.l2_vm_id)
        } else {
            Owner::L1
        };

        match call.input & HV_HYPERCALL_CODE_MASK {
            HVCALL_POST_MESSAGE => self.post_message(&mut owner, caller, call.input, param),
            // KVM doesn't look at these bits if there is a flag number.
            HVCALL_SIGNAL_EVENT if param & HV_SIGNAL_EVENT_RESERVED != 0 => HV_STATUS_INVALID_HYPERCALL_INPUT,
            HVCALL_SIGNAL_EVENT if *owner != caller => HV_STATUS_ACCESS_DENIED,
            HVCALL_SIGNAL_EVENT => self.vmbus_signal(param as u32, (param >> 32) as u16),
            _ => HV_STATUS_INVALID_HYPERCALL_CODE,
        }
    }

    /// Have the call that was answered last completed, e.g. before migration.
    fn complete_exit(&self) -> bool {
        unsafe {
            addr_of_mut!((*self.run).immediate_exit).write_volatile(1);
            let ret = control(&self.vcpu, KVM_RUN, 0);
            addr_of_mut!((*self.run).immediate_exit).write_volatile(0);
            matches!(ret, Err(error) if error.kind() == io::ErrorKind::Interrupted)
        }
    }

    fn handle_hyperv(&mut self) -> io::Result<()> {
        let call = unsafe { self.run.read_volatile().exit.hcall };
        let mut regs = Regs::default();

        match call.kind {
            KVM_EXIT_HYPERV_HCALL => {
                print!("VMM: input {:#x}, parameter {:#x}, of ", call.input, call.params[0]);
                if call.flags & KVM_EXIT_HYPERV_HCALL_FROM_L2 != 0 {
                    println!("L2 with VM id {:#x}", call.l2_vm_id);
                } else {
                    println!("L1");
                }
                let status = self.answer_hypercall(&call);
                unsafe {
                    addr_of_mut!((*self.run).exit.hcall.result).write_volatile(status);
                    if !self.complete_exit() {
                        return Err(io::Error::last_os_error());
                    }
                    control(&self.vcpu, KVM_GET_REGS, addr_of_mut!(regs) as c_ulong)?;
                }
                println!("VMM: completed, RAX {:#x}", regs.rax);
            }
            KVM_EXIT_HYPERV_SYNIC => {
                // The guest has set up its SynIC; the page is at an L1 GPA, whoever did it.
                let synic = unsafe { self.run.read_volatile().exit.synic };
                let new = synic.msg_page != self.message_page && synic.msg_page & HV_SYNIC_ENABLED != 0;
                let page = self.guest_memory::<[u8; HV_PAGE_SIZE as usize]>(synic.msg_page & HV_PAGE_MASK);

                // With KVM_CAP_HYPERV_SYNIC2, KVM doesn't clear it.
                if let (true, Some(page)) = (new, page) {
                    unsafe { (page as *mut u8).write_bytes(0, HV_PAGE_SIZE as usize) };
                }
                self.synic_control = synic.control;
                self.message_page = synic.msg_page;
            }
            _ => {}
        }
        Ok(())
    }

    /// Its end is what the guest writes to PORT_EXIT.
    fn run_vcpu(&mut self) -> io::Result<u8> {
        loop {
            match unsafe { control(&self.vcpu, KVM_RUN, 0) } {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let run = unsafe { self.run.read_volatile() };
            match run.exit_reason {
                KVM_EXIT_HYPERV => self.handle_hyperv()?,
                KVM_EXIT_IO => unsafe {
                    let io = run.exit.io;
                    let data = (self.run as *mut u8).add(io.data_offset as usize);

                    if io.direction != KVM_EXIT_IO_OUT {
                        data.write_bytes(0xff, io.size as usize * io.count as usize);
                    } else if io.port == PORT_CONSOLE {
                        print!("{}", *data as char);
                    } else if io.port == PORT_EXIT {
                        return Ok(*data);
                    }
                },
                reason => return Err(io::Error::new(io::ErrorKind::Other, format!("exit reason {}", reason))),
            }
        }
    }

    /// By multiboot: in 32-bit mode, without paging, with flat segments.
    fn load(&self, l1: &str, l2: &str, arguments: &str) -> io::Result<()> {
        let ram = unsafe { std::slice::from_raw_parts_mut(self.ram, RAM_SIZE as usize) };
        let file = fs::read(l1)?;
        let module = fs::read(l2)?;
        let half = |at: usize| u16::from_le_bytes([file[at], file[at + 1]]) as usize;
        let word = |at: usize| half(at) | half(at + 2) << 16;
        let end = MODULE_ADDRESS as u32 + module.len() as u32;

        if !file.starts_with(b"\x7fELF\x01") {
            return Err(io::Error::new(io::ErrorKind::Other, format!("{}: not a 32-bit ELF file", l1)));
        }
        for segment in (0..half(0x2c)).map(|i| word(0x1c) + i * 32) {
            let (from, to, size) = (word(segment + 4), word(segment + 12), word(segment + 16));
            if word(segment) == 1 {
                ram[to..to + size].copy_from_slice(&file[from..from + size]);
            }
        }
        ram[MODULE_ADDRESS as usize..end as usize].copy_from_slice(&module);
        for (at, value) in [
            (0, 1 << 2 | 1 << 3 | 1 << 6), // command line, modules, memory map
            (4, 0x1800),
            (5, 2),
            (6, 0x1000 + 32 * 4),
            (11, 24),
            (12, 0x1000 + 64 * 4),
            (32, MODULE_ADDRESS as u32),
            (33, end),
            (34, 0x1ff0), // an empty string
            (36, end),
            (37, end),
            (38, 0x1ff0),
            (64, 20),
            (67, RAM_SIZE as u32),
            (69, 1),
        ] {
            ram[0x1000 + at * 4..0x1004 + at * 4].copy_from_slice(&u32::to_le_bytes(value));
        }

        let line = &arguments.as_bytes()[..arguments.len().min(0x700)];
        ram[0x1800..0x1800 + line.len()].copy_from_slice(line);

        let flat = Segment {
            limit: 0xffffffff, selector: 0x10, kind: 3, present: 1, db: 1, s: 1, g: 1, ..Default::default()
        };
        let mut sregs = Sregs::default();
        let regs =
            Regs { rax: 0x2badb002, rbx: 0x1000, rip: word(0x18) as u64, rflags: 2, ..Default::default() };
        unsafe {
            control(&self.vcpu, KVM_SET_REGS, address(&regs))?;
            control(&self.vcpu, KVM_GET_SREGS, addr_of_mut!(sregs) as c_ulong)?;
            sregs.cr0 = 0x11;
            sregs.data = [flat; 5];
            sregs.cs = Segment { kind: 11, selector: 8, ..flat };
            control(&self.vcpu, KVM_SET_SREGS, address(&sregs))?;
        }
        Ok(())
    }
}

/// What KVM has to offer, as Microsoft's hypervisor: Linux asks for that name. KVM's own leaves would
/// be in the way.
fn set_cpuid(kvm: &File, vcpu: &File) -> io::Result<()> {
    let empty = || Cpuid { nent: CPUID_ENTRIES as u32, pad: 0, entries: [Default::default(); CPUID_ENTRIES] };
    let (mut cpuid, mut hv) = (empty(), empty());

    // The vCPU's Hyper-V leaves: with the enlightened VMCS if that is enabled there.
    unsafe {
        control(kvm, KVM_GET_SUPPORTED_CPUID, addr_of_mut!(cpuid) as c_ulong)?;
        control(vcpu, KVM_GET_SUPPORTED_HV_CPUID, addr_of_mut!(hv) as c_ulong)?;
    }
    let name = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
    let own = cpuid.entries[..cpuid.nent as usize].iter().filter(|entry| entry.function >> 28 != 4);
    let hv = hv.entries[..hv.nent as usize].iter().filter(|entry| entry.function <= 0x4000000a);
    let mut all: Vec<CpuidEntry> = own.chain(hv).copied().collect();
    for entry in all.iter_mut().filter(|entry| entry.function == 0x40000000) {
        entry.out = [0x4000000a, name(b"Micr"), name(b"osof"), name(b"t Hv")];
    }
    all.truncate(CPUID_ENTRIES);
    cpuid.nent = all.len() as u32;
    cpuid.entries[..all.len()].copy_from_slice(&all);
    unsafe { control(vcpu, KVM_SET_CPUID2, address(&cpuid)) }.map(|_| ())
}

fn create_vcpu(kvm: &File, vm: &File) -> io::Result<File> {
    let vcpu = unsafe { File::from_raw_fd(control(vm, KVM_CREATE_VCPU, 0)?) };
    let mut version = 0u16;
    let evmcs = KVM_CAP_HYPERV_ENLIGHTENED_VMCS;

    enable_cap(&vcpu, KVM_CAP_HYPERV_SYNIC2, [0; 4])?;
    // On AMD, there is none, and nothing to enable.
    if unsafe { control(vm, KVM_CHECK_EXTENSION, evmcs.into()) }? > 0 {
        enable_cap(&vcpu, evmcs, [addr_of_mut!(version) as u64, 0, 0, 0])?;
    }
    set_cpuid(kvm, &vcpu)?;
    Ok(vcpu)
}

/// An eventfd that raises a SINT of the vCPU.
fn route_sint(vm: &File) -> io::Result<File> {
    let routing = GsiRouting {
        nr: 1, // beside those of the other interrupts
        flags: 0,
        gsi: SINT_GSI,
        kind: KVM_IRQ_ROUTING_HV_SINT,
        entry_flags: 0,
        pad: 0,
        vcpu: 0,
        sint: VMBUS_SINT as u32,
        rest: [0; 6],
    };
    let fd = unsafe { eventfd(0, 0x80000) }; // EFD_CLOEXEC
    let irqfd = Irqfd { fd: fd as u32, gsi: SINT_GSI, flags: 0, resamplefd: 0, pad: [0; 16] };

    unsafe {
        control(vm, KVM_SET_GSI_ROUTING, address(&routing))?;
        control(vm, KVM_IRQFD, address(&irqfd))?;
        Ok(File::from_raw_fd(fd))
    }
}

/// Memory that is shared with the vCPU, or the guest's RAM.
fn map(size: usize, file: Option<&File>) -> io::Result<*mut u8> {
    let (flags, fd) = file.map_or((0x22, -1), |file| (0x01, file.as_raw_fd()));
    let at = unsafe { mmap(null_mut(), size, 3, flags, fd, 0) };

    if at as isize == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(at as *mut u8)
}

fn create_vm() -> io::Result<Vmm> {
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm")?;
    let vm = unsafe { File::from_raw_fd(control(&kvm, KVM_CREATE_VM, 0)?) };
    let ram = map(RAM_SIZE as usize, None)?;
    let region = MemoryRegion {
        slot: 0, flags: 0, guest_phys_addr: 0, memory_size: RAM_SIZE, userspace_addr: ram as u64,
    };

    unsafe {
        control(&vm, KVM_SET_TSS_ADDR, TSS_ADDRESS)?;
        control(&vm, KVM_CREATE_IRQCHIP, 0)?;
        control(&vm, KVM_SET_USER_MEMORY_REGION, address(&region))?;
    }
    let vcpu = create_vcpu(&kvm, &vm)?;
    let sint = route_sint(&vm)?;
    let size = unsafe { control(&kvm, KVM_GET_VCPU_MMAP_SIZE, 0)? };
    let run = map(size as usize, Some(&vcpu))? as *mut Run;
    let owner = Mutex::new(Owner::Nobody);
    Ok(Vmm { vm, vcpu, sint, run, ram, relay: false, owner, synic_control: 0, message_page: 0 })
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (off, args) = match args.split_first() {
        Some((&"--off", rest)) => (true, rest),
        _ => (false, &args[..]),
    };
    let (l1, l2, arguments) = match *args {
        [l1, l2, ref rest @ ..] if rest.len() <= MAX_ARGUMENTS => (l1, l2, rest.join(" ")),
        _ => return Err(io::Error::new(io::ErrorKind::Other, "usage: relay-vmm [--off] L1 L2 [ARGUMENT]...")),
    };
    let mut vmm = create_vm()?;

    if !off && !vmm.relay_enable() {
        let what = "KVM_CAP_NESTED_HYPERV_HCALL_RELAY: this host doesn't have it";
        return Err(io::Error::new(io::ErrorKind::Other, what));
    }
    vmm.load(l1, l2, &arguments)?;
    println!("VMM: the guest ends with {}", vmm.run_vcpu()?);
    Ok(())
}
